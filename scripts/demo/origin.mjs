// The origin of the demo: `origin.mjs <bytes>` accepts one connection and reports on stdout the bytes that passed
// through it.
import { createServer } from 'node:net';
import { exchange } from './exchange.mjs';
import { writeEvent } from './events.mjs';

const bytes = Number(process.argv[2]);

const server = createServer({ allowHalfOpen: true, noDelay: true }, async (socket) => {
  server.close();
  writeEvent('done', await exchange(socket, 'origin', bytes));
});
server.listen(0, '127.0.0.1', () => writeEvent('listening', { port: server.address().port }));
