// A relay in a process of its own: `node relay-process.mjs <port of the origin>`. Prints the port it listens on, then
// its stats() for every line on stdin, and ends with stdin.
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

import { relay, stats } from 'fdsplice';

const half = { allowHalfOpen: true, noDelay: true };
const server = createServer({ ...half, pauseOnConnect: true }, (client) => {
  const origin = connect({ ...half, host: '127.0.0.1', port: Number(process.argv[2]) });
  void relay(client, origin, { reject: false });
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => console.log(server.address().port));
createInterface({ input: process.stdin })
  .on('line', () => console.log(JSON.stringify(stats())))
  .on('close', () => process.exit(0));
