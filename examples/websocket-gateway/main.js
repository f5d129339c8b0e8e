// A gateway for WebSockets and other HTTP upgrades:
//   node examples/websocket-gateway/main.js --listen 127.0.0.1:9000 --target http://127.0.0.1:8080
// Node's HTTP reads the request. The target gets it as the first bytes of a relay, in which the kernel joins the two sockets.
import http from 'node:http';
import { parseArgs } from 'node:util';
import { connect, relay } from 'fdsplice';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9000' },
    target: { type: 'string', default: 'http://127.0.0.1:8080' },
    'connect-timeout': { type: 'string', default: '10000' }, // milliseconds
    grace: { type: 'string', default: '10000' }, // milliseconds
  },
});
const { hostname, port: targetPort } = new URL(settings.target);
const target = { host: hostname, port: Number(targetPort || 80) };
const stopped = new AbortController();

const gateway = http.createServer((_request, response) => {
  response.writeHead(426, { Upgrade: 'websocket', Connection: 'Upgrade' }).end('WebSockets only.\n');
});

gateway.on('upgrade', async (request, client, head) => {
  // Until the relay takes over, Node would throw an error of the client without this listener.
  client.on('error', () => {});
  // A body would have to reach the target before the target accepts the upgrade. WebSocket requests have none.
  if (
    request.headers['transfer-encoding'] !== undefined ||
    Number(request.headers['content-length'] ?? 0) > 0
  ) {
    return refuse(client, '501 Upgrades with a body are not served');
  }
  let upstream;
  try {
    upstream = await dial(client);
  } catch (error) {
    console.log(`${request.url}: ${error}`);
    return refuse(client, error.code === 'ETIMEDOUT' ? '504 Gateway Timeout' : '502 Bad Gateway');
  }
  const { tx, rx, error } = await relay(client, upstream, {
    // The request, and what the client sent together with it. The answer of the target, be it a refusal, goes back unchanged.
    headFromA: Buffer.concat([headOf(request, client.remoteAddress), head]),
    signal: stopped.signal,
    reject: false,
  });
  console.log(`${request.url}: ${tx} bytes to the target, ${rx} back${ending(error)}`);
});

/** Connects to the target. Gives up when the client closes. */
async function dial(client) {
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

/** How a connection ended, for its line in the log. After the end of its input, a side may close when it likes. */
function ending(error) {
  if (error === null) return '';
  if (error.afterEnd) return `; closed by the ${error.side === 'a' ? 'client' : 'target'}`;
  return `; ${error}`;
}

/** The request as the target gets it. */
function headOf({ method, url, headers, rawHeaders }, remoteAddress) {
  const forwarded = [headers['x-forwarded-for'], remoteAddress].filter(Boolean).join(', ');
  // `close`: a target that refuses the upgrade ends the connection, so that the client sends it nothing else.
  const lines = [`${method} ${url} HTTP/1.1`, 'Connection: Upgrade, close', `X-Forwarded-For: ${forwarded}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const isReplaced = ['connection', 'x-forwarded-for'].includes(rawHeaders[i].toLowerCase());
    if (!isReplaced) lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  }
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
gateway.listen({ host, port: Number(port) }, () => {
  const { address, port } = gateway.address();
  console.log(`listening on ${address}:${port}`);
});

// Open connections get --grace milliseconds to finish; the process ends with the last one. A second signal resets the rest.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (!gateway.listening) stopped.abort(new Error(signal));
    gateway.close();
    setTimeout(() => stopped.abort(new Error(signal)), Number(settings.grace)).unref();
  });
}
