// The listeners that transfers add to an AbortSignal: one per signal at a time, and none after the last transfer. A signal
// can be shared by thousands of transfers without a leak or a warning.
import { getEventListeners, once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, stats, type Transfer } from 'fdsplice';

import { directory, sample, sink } from '../helpers/copy-files.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length;

interface Sockets {
  /** The socket that a transfer uses. */
  near: net.Socket;
  /** The other end of the connection, in this process as well. */
  far: net.Socket;
}

/** Returns a function that makes many connections over Unix sockets, which are cheap, with both ends in this process. */
async function crowd(t: ExecutionContext): Promise<(count: number) => Promise<Sockets[]>> {
  const path = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen({ path: join(path, 's'), backlog: 1024 });
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    rmSync(path, { recursive: true });
  });
  const arrived: net.Socket[] = [];
  server.on('connection', (socket) => arrived.push(socket));
  return async (count) => {
    const far = Array.from({ length: count }, () =>
      net.connect({ path: join(path, 's'), allowHalfOpen: true }),
    );
    await until(
      'all connections are accepted',
      () => arrived.length,
      (length) => length === count,
    );
    // The pairing may be wrong, because the accept order is not defined. It does not matter here.
    return arrived.splice(0).map((near, index) => ({ near, far: far[index] as net.Socket }));
  };
}

/** Starts a relay for each two connections, all on one signal. Each carries one byte per direction and ends. */
function shortRelays(ends: Sockets[], signal: AbortSignal): Transfer[] {
  const transfers: Transfer[] = [];
  for (let index = 0; index + 1 < ends.length; index += 2) {
    const [a, b] = [ends[index], ends[index + 1]] as [Sockets, Sockets];
    transfers.push(relay(a.near, b.near, { signal }));
  }
  for (const { far } of ends) far.resume().end('x');
  return transfers;
}

test.serial('10,000 transfers on one signal add one listener at a time and leave none', async (t) => {
  const warnings: string[] = [];
  const onWarning = (warning: Error) => void warnings.push(String(warning));
  process.on('warning', onWarning);
  t.teardown(() => void process.off('warning', onWarning));
  const connect = await crowd(t);
  const controller = new AbortController();
  const { signal } = controller;
  const before = stats();
  const [inBatch, batches] = [200, 50];
  const start = performance.now();
  for (let batch = 0; batch < batches; batch += 1) {
    const ends = await connect(2 * inBatch);
    t.is(listeners(signal), 0);
    const transfers = shortRelays(ends, signal);
    t.is(listeners(signal), 1);
    const results = await within(30_000, `batch ${batch} ends`, Promise.all(transfers));
    t.is(listeners(signal), 0);
    const wrong = results.filter(({ tx, rx, error }) => tx !== 1 || rx !== 1 || error !== null);
    t.deepEqual(wrong, []);
    for (const { far } of ends) far.destroy();
  }
  t.log(`${Math.round(performance.now() - start)} ms`);
  t.is(stats().completed - before.completed, inBatch * batches);
  t.deepEqual(warnings, []);
  controller.abort();
  t.is(stats().failed, before.failed);
});

test.serial('one abort ends all transfers that share the signal, and leaves no listener', async (t) => {
  const connect = await crowd(t);
  const ends = await connect(400);
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error('all of you');
  const options = { signal, reject: false };
  const transfers: Transfer[] = [];
  for (let index = 0; index + 3 < ends.length; index += 4) {
    const [a, b, c, d] = ends.slice(index, index + 4).map(({ near }) => near) as Record<number, net.Socket> &
      [net.Socket, net.Socket, net.Socket, net.Socket];
    transfers.push(relay(a, b, options), copy(c, d, options));
  }
  t.is(listeners(signal), 1);
  // This transfer has ended before, so the signal does not change its outcome.
  transfers[0]?.abort('alone');
  await transfers[0];
  t.is(listeners(signal), 1);
  controller.abort(reason);
  const results = await within(10_000, 'all transfers end', Promise.all(transfers));
  const causes = new Map<unknown, number>();
  for (const { error } of results) {
    t.is(error?.code, 'ABORT_ERR');
    causes.set(error?.cause, (causes.get(error?.cause) ?? 0) + 1);
  }
  t.deepEqual(
    [...causes],
    [
      ['alone', 1],
      [reason, transfers.length - 1],
    ],
  );
  t.is(listeners(signal), 0);
  for (const { near, far } of ends) {
    near.destroy();
    far.destroy();
  }
});

test.serial('a wrong argument, a failed connect and an aborted signal leave no listener', async (t) => {
  const controller = new AbortController();
  const { signal } = controller;
  await t.throwsAsync(relay(0, 0, { signal }));
  await t.throwsAsync(copy(-1, 1, { signal }));
  await t.throwsAsync(sendFile(directory(t), sink(t), { signal }));
  const peer = Peer.start(t);
  const { a } = await pair(t, peer);
  // No server listens on port 1.
  t.is((await failure(t, relay(a, net.connect(1, '127.0.0.1'), { signal }))).code, 'ECONNREFUSED');
  t.is(listeners(signal), 0);
  controller.abort();
  await failure(t, sendFile(sample(t, 1).path, a, { signal }));
  t.is(listeners(signal), 0);
});

test('other listeners of the signal stay, and may start and end transfers', async (t) => {
  const peer = Peer.start(t);
  const meet = await crossing(t, peer, 'tcp');
  const [one, two, three] = [await meet(), await meet(), await meet()];
  const controller = new AbortController();
  const { signal } = controller;
  let late: Transfer | undefined;
  let called = 0;
  const options = { signal, reject: false };
  signal.addEventListener('abort', () => {
    called += 1;
    late = relay(three.a, three.b, options);
  });
  const first = relay(one.a, one.b, options);
  const second = relay(two.a, two.b, options);
  signal.addEventListener('abort', () => second.abort('too late'));
  controller.abort('now');
  const results = await within(
    5_000,
    'all transfers end',
    Promise.all([first, second, late as unknown as Transfer]),
  );
  t.deepEqual(
    results.map(({ error }) => error?.cause),
    ['now', 'now', 'now'],
  );
  t.is(called, 1);
  t.is(listeners(signal), 2);
});
