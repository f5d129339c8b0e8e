// A TCP gateway for load tests: `node --expose-gc gateway-process.mjs <port of the origin>`. It prints the port that it
// listens on. For each line on stdin it waits until no connection is left and prints its remaining resources. It exits
// at the end of stdin.
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
/** Ended relays with a socket that kept a listener or that did not close exactly once. */
let odd = 0;

const half = { allowHalfOpen: true, noDelay: true };
const server = createServer(half, (client) => {
  const origin = connect({ ...half, host: '127.0.0.1', port: Number(process.argv[2]) });
  const sockets = [client, origin];
  const closed = [0, 0];
  for (const [index, socket] of sockets.entries()) socket.on('close', () => (closed[index] += 1));
  // The listeners of Node itself, and the one above.
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
 * Counts listeners, except for two events. An 'error' listener may stay on a closed socket, so that a late error is not
 * thrown. Node leaves its own 'connect' listener if a socket with a pending read or write is destroyed before it connects.
 */
function listeners(socket) {
  const names = socket.eventNames().filter((name) => name !== 'error' && name !== 'connect');
  return names.reduce((sum, name) => sum + socket.listenerCount(name), 0);
}

createInterface({ input: process.stdin })
  .on('line', () => void settled().then((resources) => console.log(JSON.stringify(resources))))
  .on('close', () => process.exit(0));

/** The resources of the process after the last connection and a garbage collection. */
async function settled() {
  for (let i = 0; i < 600 && (stats().active > 0 || (await connections()) > 0); i += 1) await sleep(50);
  // The stream engine waits a second for streams that do not emit 'close'.
  await sleep(1500);
  for (let i = 0; i < 4; i += 1) {
    globalThis.gc();
    await sleep(20);
  }
  const { active, completed, failed, pipes } = stats();
  const open = readdirSync('/proc/self/fd').map((fd) => target(fd));
  return {
    sockets: open.filter((name) => name.startsWith('socket:')).length,
    // Without the pipes that the pool keeps for later transfers.
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
    // The descriptor that listed the directory is already closed.
    return '';
  }
}
