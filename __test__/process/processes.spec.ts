// Processes that transfer: running transfers keep a process alive, ended ones do not, and an exit resets every peer.
import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import * as imported from 'fdsplice';

import { ended, started } from '../helpers/copy-child.js';
import { directory, MiB } from '../helpers/copy-files.js';
import { nativeTest } from '../helpers/engine.js';
import { Peer } from '../helpers/peer.js';
import { allReset, busy, exchange, outside, program, RUNNING } from '../helpers/processes/relay-programs.js';
import { within } from '../helpers/wait.js';

/** The next line on the stdout of a child. */
async function line(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('a child without stdout');
  const lines = createInterface({ input: child.stdout });
  const [text] = (await within(30_000, 'the child prints a line', once(lines, 'line'))) as [string];
  lines.close();
  return text;
}

/** Whether a child still runs after `ms` milliseconds. */
async function isAlive(child: ChildProcess, ms = 700): Promise<boolean> {
  await sleep(ms);
  return child.exitCode === null && child.signalCode === null;
}

for (const [name, start] of [
  ['relay', 'relay(a, b)'],
  ['relay of unreferenced sockets', 'relay(a.unref(), b.unref())'],
  ['relay of descriptor numbers', 'relay(a.unref()._handle.fd, b.unref()._handle.fd)'],
  ['copy of descriptor numbers', 'copy(a.unref()._handle.fd, b.unref()._handle.fd)'],
  ['relay with onProgress', 'relay(a.unref(), b.unref(), { onProgress() {}, idleTimeout: 60_000 })'],
] as const) {
  const define = name.endsWith('numbers') ? nativeTest : test;
  define(`a ${name} keeps the process alive until it has ended`, async (t: ExecutionContext) => {
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
    t.is(await within(10_000, 'the bytes are relayed', peer.readText(origin, 5)), 'hello');
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

test('a failed or aborted transfer does not keep the process alive', async (t) => {
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

for (const [cause, end, status, message] of [
  ['process.exit()', 'process.exit(7)', 7, /^$/],
  ['an uncaught exception', "throw new Error('an uncaught error')", 1, /an uncaught error/],
  ['an unhandled rejection', "Promise.reject(new Error('an unhandled error'))", 1, /an unhandled error/],
] as const) {
  test(`${cause} with relays running ends the process at once, and every peer sees a reset`, async (t) => {
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

test('a relay in a cluster worker works on connections of a shared port', async (t) => {
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
  await exchange(peer, { client, origin });
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  const { code, stderr } = await out;
  t.deepEqual([code, stderr], [0, '']);
});

nativeTest('import and require return the same package', async (t) => {
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
