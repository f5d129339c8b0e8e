// An HTTP proxy for CONNECT, the method by which browsers and curl reach HTTPS origins:
//   node examples/http-connect-proxy/main.js --listen 127.0.0.1:8888
//   curl --proxy http://127.0.0.1:8888 https://example.com/
import http from 'node:http';
import { parseArgs } from 'node:util';
import { connect, relay } from 'fdsplice';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:8888' },
    'allow-port': { type: 'string', multiple: true, default: ['443'] },
    'connect-timeout': { type: 'string', default: '10000' }, // milliseconds
    'idle-timeout': { type: 'string', default: '300000' }, // milliseconds
    grace: { type: 'string', default: '10000' }, // milliseconds
  },
});
const allowed = new Set(settings['allow-port'].map(Number));
const stopped = new AbortController();

const proxy = http.createServer((_request, response) => {
  response.writeHead(405, { Allow: 'CONNECT' }).end('This proxy is for CONNECT only.\n');
});

proxy.on('connect', async (request, client, head) => {
  // Until the relay takes over, Node would throw an error of the client without this listener.
  client.on('error', () => {});
  const target = authority(request.url);
  if (target === undefined) return refuse(client, '400 Bad Request');
  if (!allowed.has(target.port)) return refuse(client, '403 Forbidden');
  let upstream;
  try {
    upstream = await dial(target, client);
  } catch (error) {
    console.log(`${request.url}: ${error}`);
    return refuse(client, error.code === 'ETIMEDOUT' ? '504 Gateway Timeout' : '502 Bad Gateway');
  }
  client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
  const { tx, rx, error } = await relay(client, upstream, {
    // Bytes that the client sent before the answer.
    headFromA: head,
    idleTimeout: Number(settings['idle-timeout']),
    signal: stopped.signal,
    reject: false,
  });
  console.log(`${request.url}: ${tx} bytes to the origin, ${rx} back${ending(error)}`);
});

/**
 * How a tunnel ended, for its line in the log. curl closes when it has its answer, without the last record of the origin's
 * TLS session. If that record has reached it already, the system resets the connection instead of ending it. TLS itself
 * shows both ends whether anything is missing, so neither is a failure of the tunnel.
 */
function ending(error) {
  if (error === null) return '';
  if (error.side === 'a' && (error.afterEnd || error.code === 'ECONNRESET')) return '; closed by the client';
  if (error.afterEnd) return '; closed by the origin';
  return `; ${error}`;
}

/** Connects to the origin. Gives up when the client closes. */
async function dial(target, client) {
  const gone = new AbortController();
  const leave = () => gone.abort(new Error('the client hung up'));
  client.once('close', leave);
  try {
    return await connect(target, { timeout: Number(settings['connect-timeout']), signal: gone.signal });
  } finally {
    client.off('close', leave);
  }
}

function refuse(client, status) {
  client.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  client.resume();
}

/** Host and port from the target of a CONNECT request; IPv6 as `[::1]:443`. */
function authority(text) {
  if (!/^[^/?#@\s]+:\d{1,5}$/.test(text)) return undefined;
  const url = URL.canParse(`tcp://${text}`) ? new URL(`tcp://${text}`) : undefined;
  if (url === undefined || url.port === '' || url.port === '0') return undefined;
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port) };
}

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
proxy.listen({ host, port: Number(port) }, () => {
  const { address, port } = proxy.address();
  console.log(`listening on ${address}:${port}`);
});

// Open tunnels get --grace milliseconds to finish; the process ends with the last one. A second signal resets the rest.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (!proxy.listening) stopped.abort(new Error(signal));
    proxy.close();
    setTimeout(() => stopped.abort(new Error(signal)), Number(settings.grace)).unref();
  });
}
