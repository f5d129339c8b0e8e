// A TCP gateway with Prometheus metrics:
//   node examples/metrics-gateway/main.js --target 127.0.0.1:8080 --listen 127.0.0.1:9000 --metrics 127.0.0.1:9100
// All connections of one client address share a rate limit; idle connections are ended.
import http from 'node:http';
import net from 'node:net';
import { parseArgs } from 'node:util';
import { relay, RateLimiter } from 'fdsplice';
import { GatewayMetrics } from './metrics.js';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9000' },
    target: { type: 'string', default: '127.0.0.1:8080' },
    metrics: { type: 'string', default: '127.0.0.1:9100' },
    'rate-limit': { type: 'string', default: '10485760' }, // bytes per second
    'idle-timeout': { type: 'string', default: '60000' }, // milliseconds
  },
});
const rateLimit = Number(settings['rate-limit']);
const idleTimeout = Number(settings['idle-timeout']);

const metrics = new GatewayMetrics();
/** Client address → the limiter shared by its open connections. */
const clients = new Map();

const gateway = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
  const { remoteAddress, remotePort } = client;
  const limit = shareOf(remoteAddress);
  const upstream = net.connect({ ...address(settings.target), allowHalfOpen: true });
  const options = { rateLimit: limit.limiter, idleTimeout, reject: false };
  const transfer = relay(client, upstream, options);
  const finished = metrics.connected(`${remoteAddress}:${remotePort}`, transfer);
  finished(await transfer);
  limit.connections -= 1;
  if (limit.connections === 0) clients.delete(remoteAddress);
});

const scrape = http.createServer(async (request, response) => {
  if (request.url !== '/metrics') {
    response.writeHead(404).end();
    return;
  }
  response.setHeader('Content-Type', metrics.contentType);
  response.end(await metrics.text());
});

gateway.listen(address(settings.listen), () => console.log(`gateway on ${where(gateway)}`));
scrape.listen(address(settings.metrics), () => console.log(`metrics on http://${where(scrape)}/metrics`));

function shareOf(client) {
  const limit = clients.get(client) ?? { limiter: new RateLimiter(rateLimit), connections: 0 };
  limit.connections += 1;
  clients.set(client, limit);
  return limit;
}

function address(text) {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}

function where(server) {
  const { address, port } = server.address();
  return `${address}:${port}`;
}
