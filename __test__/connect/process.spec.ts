// Connects and connections in the life of a process: what keeps it alive, garbage, workers, and what a connection costs.
import test, { type ExecutionContext } from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { nativeTest } from '../helpers/engine.js';
import { Peer } from '../helpers/peer.js';
import { unansweredPort } from '../helpers/unanswered.js';

/** Runs a program and returns what it prints. It must end with status 0. */
async function outputOf(t: ExecutionContext, program: string): Promise<string> {
  const child = started(
    t,
    process.execPath,
    ['--expose-gc', ...nodeArguments(`${PRELUDE}\n${program}`)],
    ['ignore', 'pipe', 'pipe'],
  );
  const { code, stdout, stderr } = await ended(child, 120_000);
  t.is(code, 0, stderr);
  t.is(stderr, '');
  return stdout.toString().trim();
}

const PRELUDE = `
  import net from 'node:net';
  import { once } from 'node:events';
  import { readdirSync, readlinkSync } from 'node:fs';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { Worker } from 'node:worker_threads';
  import { connect, copy } from 'fdsplice';
  const listening = async (handle) => {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, handle).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
    await once(server, 'listening');
    return server;
  };
  const sockets = () => readdirSync('/proc/self/fd').filter((fd) => {
    try { return readlinkSync('/proc/self/fd/' + fd).startsWith('socket:'); } catch { return false; }
  }).length;
  const collect = async () => {
    for (let round = 0; round < 4; round += 1) {
      gc();
      await sleep(30);
    }
  };
`;

test.serial('a pending connect keeps the process alive', async (t) => {
  const port = await unansweredPort(t, Peer.start(t));
  const program = `connect('127.0.0.1:${port}', { timeout: 500 }).catch((error) => console.log(error.code));`;
  t.is(await outputOf(t, program), 'ETIMEDOUT');
});

test.serial('an unused connection does not keep the process alive', async (t) => {
  const program = `
    const server = await listening(() => {});
    globalThis.connection = await connect('127.0.0.1:' + server.address().port);
    globalThis.used = await connect('127.0.0.1:' + server.address().port);
    await copy(process.execPath, globalThis.used, { length: 1 });
    server.unref();
    console.log('the end');
  `;
  // The accepted sockets are paused, so they do not keep it alive either.
  t.is(await outputOf(t, program), 'the end');
});

test.serial('a process may exit while connects are pending', async (t) => {
  const port = await unansweredPort(t, Peer.start(t));
  const program = `
    for (let i = 0; i < 100; i += 1) void connect('127.0.0.1:${port}');
    await sleep(50);
    console.log('exits');
    process.exit();
  `;
  t.is(await outputOf(t, program), 'exits');
});

test.serial('a worker that ends with pending connects leaves no socket', async (t) => {
  const port = await unansweredPort(t, Peer.start(t));
  const program = `
    const before = sockets();
    for (let round = 0; round < 5; round += 1) {
      const worker = new Worker(\`
        import('fdsplice').then(({ connect }) => {
          for (let i = 0; i < 20; i += 1) connect('127.0.0.1:${port}');
          require('node:worker_threads').parentPort.postMessage('');
        });
      \`, { eval: true, execArgv: [] });
      await once(worker, 'message');
      await worker.terminate();
    }
    const deadline = Date.now() + 20_000;
    while (sockets() > before && Date.now() < deadline) await sleep(10);
    console.log(sockets() - before);
  `;
  t.is(await outputOf(t, program), '0');
});

for (const [what, use] of [
  ['was never used', ''],
  [
    'was used on streams',
    `await copy(await import('node:stream').then(({ Readable }) => Readable.from([Buffer.from('x')], { objectMode: false })), connection);`,
  ],
] as const) {
  test.serial(`a connection that ${what} is closed when it is garbage`, async (t) => {
    const program = `
      let open = 0;
      let closed = 0;
      const server = await listening((socket) => {
        open += 1;
        socket.on('error', () => {}).on('end', () => (closed += 1)).resume();
      });
      const make = async () => {
        const connection = await connect('127.0.0.1:' + server.address().port);
        ${use}
      };
      for (let i = 0; i < 20; i += 1) await make();
      const deadline = Date.now() + 60_000;
      while (closed < 20 && Date.now() < deadline) await collect();
      console.log(open, closed);
      process.exit();
    `;
    t.is(await outputOf(t, program), '20 20');
  });
}

nativeTest('a connection takes one descriptor and less than half a KiB of JavaScript heap', async (t) => {
  const program = `
    const COUNT = 1000;
    // In a thread of its own, because accepted sockets take heap as well.
    const worker = new Worker(\`
      const net = require('node:net');
      const { parentPort } = require('node:worker_threads');
      const held = [];
      const server = net.createServer({ pauseOnConnect: true }, (socket) => {
        held.push(socket);
        if (held.length % 100 === 0) parentPort.postMessage(held.length);
      }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => parentPort.postMessage(server.address().port));
    \`, { eval: true, execArgv: [] });
    const [port] = await once(worker, 'message');
    let count = 0;
    worker.on('message', (number) => (count = number));
    const until = async (number) => { while (count < number) await sleep(10); };
    const target = '127.0.0.1:' + port;
    const others = [];
    for (let i = 0; i < 100; i += 1) others.push(await connect(target));
    await until(100);
    const connections = new Array(COUNT).fill(undefined);
    const descriptors = sockets();
    await collect();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < COUNT; i += 1) connections[i] = await connect(target);
    await until(100 + COUNT);
    await collect();
    const heap = (process.memoryUsage().heapUsed - before) / COUNT;
    console.log(JSON.stringify({ heap: Math.round(heap), descriptors: (sockets() - descriptors) / COUNT, open: others.length + connections.length }));
    process.exit();
  `;
  const { heap, descriptors, open } = JSON.parse(await outputOf(t, program)) as Record<string, number>;
  t.log(`${heap} bytes of heap and ${descriptors} descriptors`);
  t.is(open, 1100);
  // Each has a second descriptor at the server.
  t.is(descriptors, 2);
  t.true(heap !== undefined && heap < 512, `${heap}`);
});
