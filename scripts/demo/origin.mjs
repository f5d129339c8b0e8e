// The origin of the demo: `origin.mjs <bytes>` takes one connection and tells on stdout what went through it.
import { createServer } from 'node:net';
import { exchange } from './exchange.mjs';
import { tell } from './tell.mjs';

const bytes = Number(process.argv[2]);

const server = createServer({ allowHalfOpen: true, noDelay: true }, async (socket) => {
  server.close();
  tell('done', await exchange(socket, 'origin', bytes));
});
server.listen(0, '127.0.0.1', () => tell('listening', { port: server.address().port }));
