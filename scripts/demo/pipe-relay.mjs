// The other relay of the demo's comparison: `pipe-relay.mjs <port>` relays connections to a port with Node's own `pipe`.
import { connect, createServer } from 'node:net';
import { writeEvent } from './events.mjs';

const target = Number(process.argv[2]);

const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const upstream = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  client.pipe(upstream).pipe(client);
  let open = 2;
  for (const socket of [client, upstream]) {
    socket.on('close', () => {
      open -= 1;
      if (open === 0) {
        writeEvent('connection', {
          tx: upstream.bytesWritten,
          rx: client.bytesWritten,
          engine: 'pipe',
          error: null,
        });
      }
    });
  }
});
server.listen(0, '127.0.0.1', () =>
  writeEvent('listening', { address: `127.0.0.1:${server.address().port}` }),
);
