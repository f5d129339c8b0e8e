// A relay in a process of its own: `node relay-process.mjs <port of the origin> [<options of relay(), JSON>]`. Prints
// the port it listens on, then an answer to every line on stdin, and ends with stdin.
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
  // The shell lists its own descriptors: what it was given, and the directory it looks at.
  inherited: () => {
    const list = 'for fd in /proc/$$/fd/*; do readlink $fd; done; :';
    return execFileSync('/bin/sh', ['-c', list], { encoding: 'utf8' }).trim().split('\n');
  },
};
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => console.log(server.address().port));
createInterface({ input: process.stdin })
  .on('line', (question) => console.log(JSON.stringify(answers[question]())))
  .on('close', () => process.exit(0));
