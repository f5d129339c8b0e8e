// A TCP load balancer: each new connection goes to the healthy origin with the fewest connections:
//   node examples/load-balancer/main.js --listen 127.0.0.1:9000 --origin 127.0.0.1:8001 --origin 127.0.0.1:8002
import { setTimeout as sleep } from 'node:timers/promises';
import net from 'node:net';
import { parseArgs } from 'node:util';
import { relay } from 'fdsplice';
import { Origins } from './origins.js';

const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:9000' },
    origin: { type: 'string', multiple: true, default: ['127.0.0.1:8080'] },
    'check-interval': { type: 'string', default: '2000' }, // milliseconds
    'connect-timeout': { type: 'string', default: '2000' }, // milliseconds
    grace: { type: 'string', default: '10000' }, // milliseconds
  },
});
const origins = new Origins(settings.origin, Number(settings['connect-timeout']), (origin) =>
  console.log(`origin ${origin.name} is ${origin.isUp ? 'up' : 'down'}`),
);
const stopped = new AbortController();

const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
  // The client stays paused, so the relay sees its end; only an error has to be handled before.
  client.on('error', () => {});
  const chosen = await origins.connect();
  if (chosen === undefined) {
    console.log('no origin is up');
    client.resetAndDestroy();
    return;
  }
  const { origin, socket } = chosen;
  const { tx, rx, error } = await relay(client, socket, { signal: stopped.signal, reject: false });
  origin.connections -= 1;
  console.log(`${origin.name}: ${tx} bytes up, ${rx} down${ending(error)}`);
});

/** How a connection ended, for its line in the log. After the end of its input, a side may close when it likes. */
function ending(error) {
  if (error === null) return '';
  if (error.afterEnd) return `; closed by the ${error.side === 'a' ? 'client' : 'origin'}`;
  return `; ${error}`;
}

const [, host, port] = /^(.*):(\d+)$/.exec(settings.listen);
server.listen({ host, port: Number(port) }, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});

const checks = setInterval(() => void origins.check(), Number(settings['check-interval']));

// Drain: stop accepting, and give open connections --grace milliseconds. A second signal resets the rest.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, async () => {
    if (!server.listening) stopped.abort(new Error(signal));
    clearInterval(checks);
    server.close();
    console.log(`draining ${origins.connections} connections`);
    await sleep(Number(settings.grace), undefined, { ref: false });
    stopped.abort(new Error(signal));
  });
}
