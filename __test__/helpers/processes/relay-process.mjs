// The program of relay-process.ts: `node relay-process.mjs <port of the origin> [<options of relay() as JSON>]`. It
// prints the port that it listens on, then one answer for each query on stdin, and exits at the end of stdin.
import { execFileSync } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

import { relay, stats } from 'fdsplice';

const [origin, options = '{}'] = process.argv.slice(2);
const half = { allowHalfOpen: true, noDelay: true };
const endings = [];
const server = createServer({ ...half, pauseOnConnect: true }, async (client) => {
  const upstream = connect({ ...half, host: '127.0.0.1', port: Number(origin) });
  const { tx, rx, total, error } = await relay(client, upstream, { ...JSON.parse(options), reject: false });
  const { code = null, side = null, syscall = null } = error ?? {};
  endings.push({ tx, rx, total, code, side, syscall });
});
const answers = {
  stats,
  endings: () => endings,
  date: () => Date.now(),
  // The shell lists its own descriptors: the inherited ones, and the directory that it reads.
  inherited: () => {
    const list = 'for fd in /proc/$$/fd/*; do readlink $fd; done; :';
    return execFileSync('/bin/sh', ['-c', list], { encoding: 'utf8' }).trim().split('\n');
  },
};
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => console.log(server.address().port));
createInterface({ input: process.stdin })
  .on('line', (query) => console.log(JSON.stringify(answers[query]())))
  .on('close', () => process.exit(0));
