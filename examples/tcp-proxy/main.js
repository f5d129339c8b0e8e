// A TCP proxy: relays every connection on --listen to --target:
//   node examples/tcp-proxy/main.js --listen 127.0.0.1:9000 --target 127.0.0.1:8080
import net from 'node:net';
import { parseArgs } from 'node:util';
import { relay } from 'fdsplice';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9000' },
    target: { type: 'string', default: '127.0.0.1:8080' },
    grace: { type: 'string', default: '10000' }, // milliseconds
  },
});
const stopped = new AbortController();

// With half-open sockets a client that has ended its side still receives the answer.
const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
  const name = `${client.remoteAddress}:${client.remotePort}`;
  const target = net.connect({ ...address(settings.target), allowHalfOpen: true });
  const { tx, rx, error } = await relay(client, target, { signal: stopped.signal, reject: false });
  console.log(`${name}: ${tx} bytes to the target, ${rx} back${ending(error)}`);
});
server.listen(address(settings.listen), () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});

// Stops accepting; the process ends with the last connection. A second signal resets the rest.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (!server.listening) stopped.abort(new Error(signal));
    server.close();
    setTimeout(() => stopped.abort(new Error(signal)), Number(settings.grace)).unref();
  });
}

/** How a connection ended, for its line in the log. After the end of its input, a side may close when it likes. */
function ending(error) {
  if (error === null) return '';
  if (error.afterEnd) return `; closed by the ${error.side === 'a' ? 'client' : 'target'}`;
  return `; ${error}`;
}

function address(text) {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}
