// A TCP proxy that prints spans as lines of JSON: one per connection, and inside it one for the transfer:
//   node examples/tracing/main.js --listen 127.0.0.1:9000 --target 127.0.0.1:8080
import net from 'node:net';
import { parseArgs } from 'node:util';
import { relay } from 'fdsplice';
import { inSpan, traceTransfers } from './spans.js';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9000' },
    target: { type: 'string', default: '127.0.0.1:8080' },
  },
});

traceTransfers();

const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
  const peer = {
    'network.peer.address': client.remoteAddress ?? '',
    'network.peer.port': client.remotePort ?? 0,
  };
  void inSpan('connection', peer, () =>
    relay(client, net.connect({ ...address(settings.target), allowHalfOpen: true }), { reject: false }),
  );
});
server.listen(address(settings.listen), () => {
  const { address, port } = server.address();
  console.error(`listening on ${address}:${port}`);
});

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());

function address(text) {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}
