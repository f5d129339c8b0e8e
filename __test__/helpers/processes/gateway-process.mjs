// A TCP gateway in a process of its own, for load: `node --expose-gc gateway-process.mjs <port of the origin>`. Prints the
// port it listens on; then, for every line on stdin, what it holds once everything has settled; ends with stdin.
import { readdirSync, readlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { relay, stats } from 'fdsplice';

const problems = [];
process.on('unhandledRejection', (reason) => problems.push(`unhandled rejection: ${reason}`));
process.on('uncaughtExceptionMonitor', (error) => console.error(error));
process.on('warning', ({ name, message }) => problems.push(`${name}: ${message}`));

const stop = new AbortController();
const outcomes = {};
/** Sockets of ended relays that still have listeners of ours, or that were not closed exactly once. */
let odd = 0;

const half = { allowHalfOpen: true, noDelay: true };
const server = createServer(half, (client) => {
  const origin = connect({ ...half, host: '127.0.0.1', port: Number(process.argv[2]) });
  const sockets = [client, origin];
  const closed = [0, 0];
  for (const [index, socket] of sockets.entries()) socket.on('close', () => (closed[index] += 1));
  // What Node itself listens to, and the listener above.
  const before = sockets.map(listeners);
  void relay(client, origin, { signal: stop.signal, idleTimeout: 30_000, reject: false }).then(
    ({ error }) => {
      const code = error?.code ?? 'ok';
      outcomes[code] = (outcomes[code] ?? 0) + 1;
      const after = sockets.map(listeners);
      if (closed.some((times) => times !== 1) || after.some((count, i) => count > before[i])) odd += 1;
    },
  );
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 2048 }, () => console.log(server.address().port));

/**
 * Without 'error': what comes late must not be thrown, so that one may stay on a socket that is closed. Without 'connect':
 * Node leaves its own there when a socket with a read or a write waiting is destroyed before it has connected.
 */
function listeners(socket) {
  const names = socket.eventNames().filter((name) => name !== 'error' && name !== 'connect');
  return names.reduce((sum, name) => sum + socket.listenerCount(name), 0);
}

createInterface({ input: process.stdin })
  .on('line', () => void settled().then((held) => console.log(JSON.stringify(held))))
  .on('close', () => process.exit(0));

/** What is held when no connection is left, garbage collected. */
async function settled() {
  for (let i = 0; i < 600 && (stats().active > 0 || (await connections()) > 0); i += 1) await sleep(50);
  // The stream engine waits a second for streams that do not say that they have closed.
  await sleep(1500);
  for (let i = 0; i < 4; i += 1) {
    globalThis.gc();
    await sleep(20);
  }
  const { active, completed, failed, pipes } = stats();
  const open = readdirSync('/proc/self/fd').map((fd) => target(fd));
  return {
    sockets: open.filter((name) => name.startsWith('socket:')).length,
    // Those that the core keeps for the next transfer are no leak.
    others: open.filter((name) => !name.startsWith('socket:')).length - 2 * (pipes.leased + pipes.idle),
    leased: pipes.leased,
    active,
    ended: completed + failed,
    heap: process.memoryUsage().heapUsed,
    external: process.memoryUsage().external,
    rss: process.memoryUsage().rss,
    resources: process.getActiveResourcesInfo().length,
    outcomes,
    odd,
    problems,
  };
}

function connections() {
  return new Promise((resolve) => server.getConnections((_error, count) => resolve(count ?? 0)));
}

function target(fd) {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The descriptor of the directory itself is closed by now.
    return '';
  }
}
