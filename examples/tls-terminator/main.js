// A TLS terminator: TLS connections on --listen, plain TCP to --target:
//   node examples/tls-terminator/main.js --cert server.crt --key server.key --listen 127.0.0.1:8443 --target 127.0.0.1:8080
// OpenSSL inside Node decrypts the bytes, so they pass through JavaScript: the result's engine is 'stream'.
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';
import tls from 'node:tls';
import { relay } from 'fdsplice';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:8443' },
    target: { type: 'string', default: '127.0.0.1:8080' },
    cert: { type: 'string', default: 'server.crt' },
    key: { type: 'string', default: 'server.key' },
    grace: { type: 'string', default: '10000' }, // milliseconds
  },
});
const stopped = new AbortController();

const identity = { cert: readFileSync(settings.cert), key: readFileSync(settings.key) };
const server = tls.createServer({ ...identity, allowHalfOpen: true }, async (client) => {
  const name = `${client.remoteAddress}:${client.remotePort}`;
  const target = net.connect({ ...address(settings.target), allowHalfOpen: true });
  const options = { signal: stopped.signal, reject: false };
  const { tx, rx, engine, error } = await relay(client, target, options);
  console.log(`${name}: ${tx} bytes to the target, ${rx} back, ${engine}${ending(error)}`);
});
// Port scanners, and clients that do not trust the certificate.
server.on('tlsClientError', (error) => console.log(`no handshake: ${error.message}`));
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
