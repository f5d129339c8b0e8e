// Worker threads that transfer: relays inside them work, and a worker that ends resets its peers and leaves nothing.
import test, { type ExecutionContext } from 'ava';

import { ended } from '../helpers/copy-child.js';
import { MiB } from '../helpers/copy-files.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import {
  allReset,
  busy,
  exchange,
  MEET,
  outside,
  program,
  RUNNING,
} from '../helpers/processes/relay-programs.js';

/** The start of a program with workers. `start(body)` runs `body` in a worker that begins with `MEET` and has `ports`. */
const THREADS = `
  import { Worker } from 'node:worker_threads';
  import { readdirSync } from 'node:fs';
  const ports = process.argv[1];
  const start = (body) => new Worker(
    ${JSON.stringify(`${MEET}
      import { parentPort, workerData } from 'node:worker_threads';
      const ports = JSON.parse(workerData);
    `)} + body,
    { eval: true, workerData: ports },
  );
`;

test('a relay inside a worker works, and the worker exits by itself', async (t) => {
  const { peer, ports, accept } = await outside(t);
  const body = `${THREADS}
    const worker = start("const [a, b] = await meet(ports); parentPort.postMessage((await relay(a, b)).total)");
    worker.on('message', (total) => console.log(total)).on('exit', (code) => console.log('exit', code, stats().total));
  `;
  const child = program(t, body, ports);
  const out = ended(child, 30_000);
  const outer = await accept();
  await exchange(peer, outer);
  await Promise.all([peer.shutdown(outer.client), peer.shutdown(outer.origin)]);
  const { code, stdout, stderr } = await out;
  // The core counts for all threads of the process, the stream engine for one thread.
  const counted = isNative ? 2 * MiB : 0;
  t.deepEqual([code, stdout.toString(), stderr], [0, `${2 * MiB}\nexit 0 ${counted}\n`, '']);
});

for (const [cause, end] of [
  // Runs no more JavaScript in the worker, so Node closes its sockets cleanly and the stream engine cannot reset them.
  ['terminate()', 'await worker.terminate()'],
  ['process.exit() in it', "worker.postMessage('exit')"],
  ['an uncaught exception in it', "worker.postMessage('throw')"],
] as const) {
  const testIt = cause === 'terminate()' ? nativeTest : test;
  testIt(
    `a worker that is ended by ${cause} with relays running resets every peer, and the process goes on`,
    async (t: ExecutionContext) => {
      const { peer, ports, accept } = await outside(t);
      const inside = `${RUNNING}
      parentPort.on('message', (command) => {
        if (command === 'exit') process.exit(3);
        throw new Error('an uncaught error');
      });
      await running(ports);
    `;
      const body = `${THREADS}
      const worker = start(${JSON.stringify(inside)}).on('error', () => {});
      process.stdin.once('data', async () => {
        // Not \`once\`, which an error rejects.
        const exit = new Promise((resolve) => worker.on('exit', resolve));
        const since = performance.now();
        ${end};
        await exit;
        console.log(performance.now() - since, stats().active);
        // Another relay works in the main thread.
        const [a, b] = await meet(JSON.parse(ports));
        console.log((await relay(a, b)).total);
        process.exit(0);
      });
    `;
      const child = program(t, body, ports);
      const outer = await busy(peer, accept);
      const out = ended(child, 30_000);
      child.stdin?.write('now');
      await allReset(t, peer, outer);
      const next = await accept();
      await exchange(peer, next);
      await Promise.all([peer.shutdown(next.client), peer.shutdown(next.origin)]);
      const { code, stdout, stderr } = await out;
      t.is(code, 0, stderr);
      const [ending = '', total] = stdout.toString().trim().split('\n');
      const [ms = '', active] = ending.split(' ');
      t.log(`${Math.round(Number(ms))} ms`);
      t.true(Number(ms) < 5_000);
      t.deepEqual([active, total], ['0', String(2 * MiB)]);
    },
  );
}

test('workers that end with relays running leave no descriptor', async (t) => {
  const { peer, ports, accept } = await outside(t);
  const inside = `${RUNNING} await running(ports); parentPort.postMessage('running');`;
  const body = `${THREADS}
    let first;
    for (let round = 0; round < 12; round += 1) {
      const worker = start(${JSON.stringify(inside)});
      await once(worker, 'message');
      await worker.terminate();
      // The pipes and threads of the core stay open for later workers.
      if (round === 2) first = readdirSync('/proc/self/fd').length;
    }
    console.log(readdirSync('/proc/self/fd').length - first, stats().active);
  `;
  const child = program(t, body, ports);
  const accepting = (async () => {
    for (;;) await accept();
  })();
  accepting.catch(() => {});
  const { code, stdout, stderr } = await ended(child, 60_000);
  t.is(code, 0, stderr);
  const [more, active] = stdout.toString().trim().split(' ').map(Number);
  t.is(active, 0);
  t.true((more ?? NaN) <= 2, `${more} more descriptors after nine more workers`);
  t.teardown(() => void peer);
});

nativeTest('eight workers and the main thread load the package at once', async (t) => {
  const inside = `
    import { openSync } from 'node:fs';
    const { tx } = await copy(openSync('/dev/zero'), openSync('/dev/null', 'w'), { length: 1_000_000 });
    parentPort.postMessage(tx);
  `;
  const body = `${THREADS}
    const workers = Array.from({ length: 8 }, () => start(${JSON.stringify(inside)}));
    const sums = await Promise.all(workers.map(async (worker) => {
      const exit = once(worker, 'exit');
      const [tx] = await once(worker, 'message');
      return tx + (await exit)[0];
    }));
    console.log(sums.join(), stats().tx, stats().completed);
  `;
  const { code, stdout, stderr } = await ended(program(t, body, '[]'), 60_000);
  const each = Array(8).fill(1_000_000).join();
  t.deepEqual([code, stdout.toString(), stderr], [0, `${each} 8000000 8\n`, '']);
});
