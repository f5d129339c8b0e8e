import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import * as imported from 'fdsplice';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { directory, MiB } from '../helpers/copy-files.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

/** Of a process or a thread: `meet()` gives two sockets of a relay, connected to the two outer peers. */
const MEET = `
  import { once } from 'node:events';
  import net from 'node:net';
  import { copy, relay, sendFile, stats, RateLimiter, TransferError } from 'fdsplice';
  const connect = async (port) => {
    // Paused before it is connected: Node then reads nothing, so that the number can be used by itself.
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }).pause();
    await once(socket, 'connect');
    return socket;
  };
  const meet = async ([one, other]) => [await connect(one), await connect(other)];
`;

interface Outer {
  client: Conn;
  origin: Conn;
}

/** Where a process comes to, `accept` giving the peers of the sockets it made there. */
async function outside(
  t: ExecutionContext,
): Promise<{ peer: Peer; ports: string; accept: () => Promise<Outer> }> {
  const peer = Peer.start(t);
  const [one, other] = [await peer.listen({ port: 0 }), await peer.listen({ port: 0 })];
  const accept = async () => ({
    client: (await within(30_000, 'a comes', peer.accept(one.listener))).conn,
    origin: (await within(30_000, 'b comes', peer.accept(other.listener))).conn,
  });
  return { peer, ports: JSON.stringify([one.port, other.port]), accept };
}

function program(t: ExecutionContext, body: string, ...args: string[]): ChildProcess {
  return started(t, process.execPath, [...nodeArguments(MEET + body), ...args], ['pipe', 'pipe', 'pipe']);
}

/** The next line that a child writes. */
async function line(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('a child without stdout');
  const lines = createInterface({ input: child.stdout });
  const [text] = (await within(30_000, 'a line of the child', once(lines, 'line'))) as [string];
  lines.close();
  return text;
}

async function isAlive(child: ChildProcess, ms = 700): Promise<boolean> {
  await sleep(ms);
  return child.exitCode === null && child.signalCode === null;
}

const echoed = async (peer: Peer, { client, origin }: Outer) => {
  await Promise.all([peer.write(client, MiB, 1), peer.read(origin, MiB)]);
  await Promise.all([peer.write(origin, MiB, 2), peer.read(client, MiB)]);
};

for (const [what, start] of [
  ['relay', 'relay(a, b)'],
  ['relay of sockets that are unreferenced', 'relay(a.unref(), b.unref())'],
  ['relay of numbers', 'relay(a.unref()._handle.fd, b.unref()._handle.fd)'],
  ['copy of numbers', 'copy(a.unref()._handle.fd, b.unref()._handle.fd)'],
  ['relay that tells its progress', 'relay(a.unref(), b.unref(), { onProgress() {}, idleTimeout: 60_000 })'],
] as const) {
  const define = what.endsWith('of numbers') ? nativeTest : test;
  define(`a ${what} keeps the process alive, and does not once it has ended`, async (t: ExecutionContext) => {
    const { peer, ports, accept } = await outside(t);
    const body = `
      const [a, b] = await meet(JSON.parse(process.argv[1]));
      const transfer = ${start};
      transfer.then(({ total }) => { process.stdout.write(String(total)); a.destroy(); b.destroy(); });
    `;
    const child = program(t, body, ports);
    const out = ended(child, 30_000);
    const { client, origin } = await accept();
    t.true(await isAlive(child));
    await peer.writeText(client, 'hello');
    t.is(await within(10_000, 'it is relayed', peer.readText(origin, 5)), 'hello');
    t.true(await isAlive(child, 300));
    await peer.shutdown(client);
    await peer.shutdown(origin);
    const { code, stdout, stderr } = await out;
    t.deepEqual([code, stdout.toString(), stderr], [0, '5', '']);
  });
}

nativeTest('a copy that waits for its limiter keeps the process alive until it has ended', async (t) => {
  const body = `
    import { openSync } from 'node:fs';
    const limiter = new RateLimiter(1000);
    const transfer = copy(openSync('/dev/zero'), openSync('/dev/null', 'w'), { length: 1500, rateLimit: limiter });
    transfer.then(({ tx }) => console.log(tx));
  `;
  const started = performance.now();
  const { code, stdout } = await ended(program(t, body), 30_000);
  t.deepEqual([code, stdout.toString()], [0, '1500\n']);
  t.true(performance.now() - started > 1_000);
});

test('transfers that failed or were aborted keep nothing alive', async (t) => {
  const { ports, accept } = await outside(t);
  const body = `
    const ports = JSON.parse(process.argv[1]);
    const [a, b] = await meet(ports);
    const controller = new AbortController();
    const one = relay(a, b, { signal: controller.signal, reject: false, idleTimeout: 60_000, onProgress() {} });
    const two = relay(await connect(ports[0]), net.connect(1, '127.0.0.1'), { reject: false });
    controller.abort();
    console.log([(await one).error.code, (await two).error.code].join());
  `;
  const child = program(t, body, ports);
  void accept();
  const { code, stdout } = await ended(child, 20_000);
  t.deepEqual([code, stdout.toString()], [0, 'ABORT_ERR,ECONNREFUSED\n']);
});

/** Relays with everything that can be pending: nothing, a limiter, a full destination. */
const RUNNING = `
  const running = async (ports) => {
    for (const options of [{}, { rateLimit: 1000 }, { idleTimeout: 60_000, onProgress() {} }]) {
      const [a, b] = await meet(ports);
      relay(a, b, options).catch(() => {});
    }
  };
`;
const RELAYS = 3;

async function busy(peer: Peer, accept: () => Promise<Outer>): Promise<Outer[]> {
  const outer: Outer[] = [];
  while (outer.length < RELAYS) outer.push(await accept());
  // The last one fills its destination; nobody reads there before the end.
  for (const { client } of outer.slice(1)) peer.write(client, 64 * MiB, 1).catch(() => {});
  await sleep(300);
  return outer;
}

async function allReset(t: ExecutionContext, peer: Peer, outer: Outer[]): Promise<void> {
  for (const [index, { client, origin }] of outer.entries()) {
    const atOrigin = await within(10_000, `origin ${index} sees the end`, peer.readToEnd(origin));
    t.is(atOrigin.end, 'reset', `origin ${index}`);
    if (index === 0) {
      const atClient = await within(10_000, 'client 0 sees the end', peer.readToEnd(client));
      t.is(atClient.end, 'reset', 'client 0');
      continue;
    }
    // These were writing: a writer that is told of the reset leaves nothing for the reader.
    const write = await peer.writeText(client, 'x').then(
      () => 'accepted',
      (error: NodeJS.ErrnoException) => error.code,
    );
    t.not(write, 'accepted', `client ${index}`);
  }
}

for (const [how, end, status, message] of [
  ['process.exit()', 'process.exit(7)', 7, /^$/],
  ['an uncaught exception', "throw new Error('nobody caught this')", 1, /nobody caught this/],
  ['an unhandled rejection', "Promise.reject(new Error('nobody handled this'))", 1, /nobody handled this/],
] as const) {
  test(`${how} with relays running ends at once, and every peer sees a reset`, async (t) => {
    const { peer, ports, accept } = await outside(t);
    const body = `${RUNNING}
      await running(JSON.parse(process.argv[1]));
      process.stdin.once('data', () => { ${end} });
    `;
    const child = program(t, body, ports);
    const outer = await busy(peer, accept);
    const out = ended(child, 20_000);
    const since = performance.now();
    child.stdin?.write('now');
    const { code, stderr } = await out;
    t.log(`${Math.round(performance.now() - since)} ms`);
    t.is(code, status, stderr);
    t.is(child.signalCode, null);
    t.regex(stderr, message);
    await allReset(t, peer, outer);
  });
}

/** A program of a thread, started by one that has `ports` and `start(body)`. */
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

test('a relay inside a worker works, and the worker ends by itself', async (t) => {
  const { peer, ports, accept } = await outside(t);
  const body = `${THREADS}
    const worker = start("const [a, b] = await meet(ports); parentPort.postMessage((await relay(a, b)).total)");
    worker.on('message', (total) => console.log(total)).on('exit', (code) => console.log('exit', code, stats().total));
  `;
  const child = program(t, body, ports);
  const out = ended(child, 30_000);
  const outer = await accept();
  await echoed(peer, outer);
  await Promise.all([peer.shutdown(outer.client), peer.shutdown(outer.origin)]);
  const { code, stdout, stderr } = await out;
  // The counts of the process have those of all its threads; without the core, those of one.
  const counted = isNative ? 2 * MiB : 0;
  t.deepEqual([code, stdout.toString(), stderr], [0, `${2 * MiB}\nexit 0 ${counted}\n`, '']);
});

for (const [how, end] of [
  // Runs no more JavaScript in it, so that what Node has open there is closed cleanly.
  ['terminate()', 'await worker.terminate()'],
  ['process.exit() in it', "worker.postMessage('exit')"],
  ['an uncaught exception in it', "worker.postMessage('throw')"],
] as const) {
  const testIt = how === 'terminate()' ? nativeTest : test;
  testIt(
    `a worker that is ended by ${how} with relays running resets every peer, and the process goes on`,
    async (t: ExecutionContext) => {
      const { peer, ports, accept } = await outside(t);
      const inside = `${RUNNING}
      parentPort.on('message', (what) => {
        if (what === 'exit') process.exit(3);
        throw new Error('nobody caught this');
      });
      await running(ports);
    `;
      const body = `${THREADS}
      const worker = start(${JSON.stringify(inside)}).on('error', () => {});
      process.stdin.once('data', async () => {
        // Not \`once\`, which an error ends too.
        const exit = new Promise((resolve) => worker.on('exit', resolve));
        const since = performance.now();
        ${end};
        await exit;
        console.log(performance.now() - since, stats().active);
        // Alive and well: another relay runs in this thread.
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
      await echoed(peer, next);
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
      // The pipes and threads of the core stay for the next one.
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
  t.true((more ?? NaN) <= 2, `${more} descriptors more after nine workers more`);
  t.teardown(() => void peer);
});

nativeTest('eight workers load the package at once, beside the thread that starts them', async (t) => {
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

test('a relay in a cluster worker works, on connections of a shared port', async (t) => {
  const file = join(directory(t), 'gateway.mjs');
  writeFileSync(
    file,
    `import cluster from 'node:cluster';
    import net from 'node:net';
    import { relay } from '${import.meta.resolve('fdsplice')}';
    if (cluster.isPrimary) {
      cluster.fork().on('listening', ({ port }) => console.log(port));
      cluster.on('exit', (_, code) => process.exit(code));
    } else {
      const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
        const { total } = await relay(socket, net.connect(Number(process.argv[2]), '127.0.0.1'));
        process.exit(total === ${2 * MiB} ? 0 : 9);
      });
      server.listen(0, '127.0.0.1');
    }`,
  );
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const child = started(t, process.execPath, [file, String(port)], ['ignore', 'pipe', 'pipe']);
  const shared = Number(await line(child));
  const out = ended(child, 30_000);
  const { conn: client } = await peer.connect({ port: shared });
  const { conn: origin } = await within(30_000, 'the gateway connects', peer.accept(listener));
  await echoed(peer, { client, origin });
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  const { code, stderr } = await out;
  t.deepEqual([code, stderr], [0, '']);
});

nativeTest('import and require give one and the same package', async (t) => {
  const required = createRequire(import.meta.url)('fdsplice') as typeof imported;
  t.is(required.relay, imported.relay);
  t.is(required.TransferError, imported.TransferError);
  t.is(required.RateLimiter, imported.RateLimiter);
  t.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort());
  t.false('default' in required);

  const both = `
    const required = require('fdsplice');
    import('fdsplice').then(async (imported) => {
      const { error } = await required.copy(0, 1, { signal: AbortSignal.abort(), reject: false });
      const limiter = new required.RateLimiter(5);
      const taken = await imported.copy(0, 1, { length: 0, rateLimit: limiter });
      console.log(required.relay === imported.relay, error instanceof imported.TransferError, taken.tx);
    });
  `;
  const args = ['--input-type=commonjs', '--eval', both];
  const child = started(t, process.execPath, args, ['pipe', 'pipe', 'pipe']);
  const { code, stdout } = await ended(child, 20_000);
  t.deepEqual([code, stdout.toString()], [0, 'true true 0\n']);
});
