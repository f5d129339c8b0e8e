// A gateway for WebSockets and other HTTP upgrades:
//   node examples/websocket-gateway/main.js --listen 127.0.0.1:9000 --target http://127.0.0.1:8080
// Node's HTTP performs the handshake; afterwards the kernel joins the two sockets.
import http from 'node:http';
import { parseArgs } from 'node:util';
import { relay } from 'fdsplice';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9000' },
    target: { type: 'string', default: 'http://127.0.0.1:8080' },
    grace: { type: 'string', default: '10000' }, // milliseconds
  },
});
const stopped = new AbortController();

const gateway = http.createServer((_request, response) => {
  response.writeHead(426, { Upgrade: 'websocket', Connection: 'Upgrade' }).end('WebSockets only.\n');
});

gateway.on('upgrade', (request, client, head) => {
  const { method, url, headers, socket } = request;
  // A body would have to reach the target before the target accepts the upgrade. WebSocket requests have none.
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0) {
    client.end(
      'HTTP/1.1 501 Upgrades with a body are not served\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
    );
    return;
  }
  const forwarded = [headers['x-forwarded-for'], socket.remoteAddress].filter(Boolean).join(', ');
  const asked = http.request(settings.target, {
    method,
    path: url,
    headers: { ...headers, 'x-forwarded-for': forwarded },
    // The relay destroys the socket, so no agent may keep it.
    agent: false,
  });
  const leave = () => asked.destroy();
  client.on('error', leave).on('close', leave);

  asked.on('upgrade', async (response, upstream, upstreamHead) => {
    client.off('error', leave).off('close', leave);
    client.write(headOf(response, response.rawHeaders));
    const { tx, rx, error } = await relay(client, upstream, {
      // Bytes that either side sent together with its part of the handshake.
      headFromA: head,
      headFromB: upstreamHead,
      signal: stopped.signal,
      reject: false,
    });
    console.log(`${url}: ${tx} bytes to the target, ${rx} back${ending(error)}`);
  });

  // The target refuses: its answer goes back unchanged, and the connection ends after it.
  asked.on('response', (response) => {
    const headers = { ...response.headers, connection: 'close' };
    // Node has decoded the chunks.
    delete headers['transfer-encoding'];
    client.write(headOf(response, Object.entries(headers).flat(1)));
    response.pipe(client);
  });
  asked.on('error', (error) => {
    console.log(`${url}: ${error.message}`);
    if (client.writable)
      client.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  });
  asked.end();
});

/** How a connection ended, for its line in the log. After the end of its input, a side may close when it likes. */
function ending(error) {
  if (error === null) return '';
  if (error.afterEnd) return `; closed by the ${error.side === 'a' ? 'client' : 'target'}`;
  return `; ${error}`;
}

function headOf({ statusCode, statusMessage }, headers) {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`];
  for (let i = 0; i < headers.length; i += 2) {
    for (const value of [headers[i + 1]].flat()) lines.push(`${headers[i]}: ${value}`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
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
