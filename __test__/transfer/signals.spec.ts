import { getEventListeners, once } from 'node:events';
import { mkdtempSync, openSync, closeSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, stats, type Transfer } from 'fdsplice';

import { directory, GiB, KiB, MiB, opened, positionOf, sample, sink } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { unanswered } from '../helpers/unanswered.js';
import { steady, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length;

interface Sockets {
  /** Ours. */
  near: net.Socket;
  /** The other end of it, in this process too. */
  far: net.Socket;
}

/** Connected Unix sockets, both ends here: cheap ones, for very many. */
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
      'all are connected',
      () => arrived.length,
      (length) => length === count,
    );
    // In the order of connecting, or not: who belongs to whom does not matter here.
    return arrived.splice(0).map((near, index) => ({ near, far: far[index] as net.Socket }));
  };
}

/** Relays all of them in pairs on one signal, lets each carry a byte and end. */
function shortRelays(ends: Sockets[], signal: AbortSignal): Transfer[] {
  const transfers: Transfer[] = [];
  for (let index = 0; index + 1 < ends.length; index += 2) {
    const [a, b] = [ends[index], ends[index + 1]] as [Sockets, Sockets];
    transfers.push(relay(a.near, b.near, { signal }));
  }
  for (const { far } of ends) far.resume().end('x');
  return transfers;
}

test.serial('10,000 transfers on one signal leave no listener, and have one at a time', async (t) => {
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

test.serial('one abort ends all that share the signal, and leaves no listener', async (t) => {
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
  // One that has ended by itself is not aborted any more.
  transfers[0]?.abort('alone');
  await transfers[0];
  t.is(listeners(signal), 1);
  controller.abort(reason);
  const results = await within(10_000, 'all end', Promise.all(transfers));
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

test.serial('a signal that has aborted, a mistake and a failed connect leave no listener', async (t) => {
  const controller = new AbortController();
  const { signal } = controller;
  await t.throwsAsync(relay(0, 0, { signal }));
  await t.throwsAsync(copy(-1, 1, { signal }));
  await t.throwsAsync(sendFile(directory(t), sink(t), { signal }));
  const peer = Peer.start(t);
  const { a } = await pair(t, peer);
  // Nobody listens on the port of TCP that means nothing.
  t.is((await failure(t, relay(a, net.connect(1, '127.0.0.1'), { signal }))).code, 'ECONNREFUSED');
  t.is(listeners(signal), 0);
  controller.abort();
  await failure(t, sendFile(sample(t, 1).path, a, { signal }));
  t.is(listeners(signal), 0);
});

test('other listeners of the signal are left alone, and may start and end transfers', async (t) => {
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
  const results = await within(5_000, 'all end', Promise.all([first, second, late as unknown as Transfer]));
  t.deepEqual(
    results.map(({ error }) => error?.cause),
    ['now', 'now', 'now'],
  );
  t.is(called, 1);
  t.is(listeners(signal), 2);
});

interface Running {
  transfer: Transfer;
  /** What has to be true behind the abort. */
  check?: () => unknown;
}

/** Something that runs, has come to the phase in its name, and obeys the signal. */
type Phase = (t: ExecutionContext, peer: Peer, signal: AbortSignal) => Promise<Running>;

const stands = (transfer: Transfer) =>
  steady('it moves nothing more', () => Promise.resolve(transfer.traffic.total), -1);

async function full(t: ExecutionContext, peer: Peer) {
  const made = await pair(t, peer, 'tcp', { origin: { rcvbuf: 16 * KiB } });
  peer.write(made.client, GiB, 1).catch(() => {});
  return made;
}

const PHASES: Record<string, Phase> = {
  'relay that connects': async (t, peer, signal) => {
    const { a, client } = await pair(t, peer);
    const b = await unanswered(t, peer);
    const transfer = relay(a, b, { signal });
    await sleep(50);
    const check = async () => {
      t.true(a.destroyed && b.destroyed);
      t.is((await peer.readToEnd(client)).end, 'reset');
    };
    return { transfer, check };
  },
  'copy that connects': async (t, peer, signal) => {
    const b = await unanswered(t, peer);
    const transfer = copy(opened(t, sample(t, MiB).path), b, { signal });
    await sleep(50);
    return { transfer, check: () => t.false(b.destroyed) };
  },
  'relay without input': async (t, peer, signal) => {
    const { a, b, client, origin } = await pair(t, peer);
    const transfer = relay(a, b, { signal });
    await peer.writeText(client, 'hello');
    await peer.readText(origin, 5);
    return { transfer, check: () => t.is(transfer.traffic.tx, 5) };
  },
  'copy without input': async (t, peer, signal) => {
    const { a, b, client, origin } = await pair(t, peer);
    const transfer = copy(a, b, { signal });
    await peer.writeText(client, 'hello');
    await peer.readText(origin, 5);
    const check = async () => {
      t.is(transfer.traffic.tx, 5);
      b.write('after');
      t.is(await peer.readText(origin, 5), 'after');
    };
    return { transfer, check };
  },
  'relay to a full destination': async (t, peer, signal) => {
    const { a, b } = await full(t, peer);
    return { transfer: relay(a, b, { signal }) };
  },
  'copy to a full destination': async (t, peer, signal) => {
    const { a, b } = await full(t, peer);
    return { transfer: copy(a, b, { signal }) };
  },
  'copy of a file to a full destination': async (t, peer, signal) => {
    const { b } = await full(t, peer);
    const file = opened(t, sample(t, 32 * MiB).path);
    const transfer = copy(file, b, { signal });
    return { transfer, check: () => t.is(positionOf(file), transfer.traffic.tx) };
  },
  'sendFile to a full destination': async (t, peer, signal) => {
    const { b } = await full(t, peer);
    return { transfer: sendFile(sample(t, 32 * MiB).path, b, { signal }) };
  },
  'relay that waits for a limiter': async (t, peer, signal) => {
    const { a, b } = await full(t, peer);
    return { transfer: relay(a, b, { signal, rateLimit: 0.01 }) };
  },
  'copy that waits for a limiter': async (t, peer, signal) => {
    const { a, b } = await full(t, peer);
    return { transfer: copy(a, b, { signal, rateLimit: 0.01 }) };
  },
  'sendFile that waits for a limiter': async (t, peer, signal) => {
    const { b } = await full(t, peer);
    return { transfer: sendFile(sample(t, MiB).path, b, { signal, rateLimit: 0.01 }) };
  },
};

for (const [name, start] of Object.entries(PHASES)) {
  test.serial(`a ${name} obeys its signal at once`, async (t) => {
    const peer = Peer.start(t);
    const took: number[] = [];
    // A busy machine may be slow once.
    while (took.length < 3 && !took.some((ms) => ms < 100)) {
      const controller = new AbortController();
      const { transfer, check } = await start(t, peer, controller.signal);
      await stands(transfer);
      const { traffic } = transfer;
      const since = performance.now();
      controller.abort(name);
      const error = await failure(t, transfer);
      took.push(performance.now() - since);
      t.like(error, { name: 'AbortError', code: 'ABORT_ERR', cause: name });
      // A stream that goes on keeps what it was given: that counts in the end.
      if (isNative || name.startsWith('relay')) t.deepEqual(error.traffic, traffic);
      else t.true(error.traffic.tx >= traffic.tx);
      t.deepEqual(transfer.traffic, error.traffic);
      t.is(listeners(controller.signal), 0);
      await check?.();
    }
    t.log(took.map((ms) => `${ms.toFixed(1)} ms`).join());
    t.true(took.some((ms) => ms < 100));
  });
}

/** The path of a regular file, which the stream engine can read, of many zeros. */
function hole(t: ExecutionContext): string {
  const path = join(directory(t), 'hole');
  writeFileSync(path, '');
  truncateSync(path, GiB);
  return path;
}

for (const zeroCopy of [true, false]) {
  test.serial(
    `a copy between files obeys its signal behind the current call, zeroCopy: ${zeroCopy}`,
    async (t) => {
      const to = join(directory(t), 'copy');
      const took: number[] = [];
      while (took.length < 3 && !took.some((ms) => ms < 100)) {
        const controller = new AbortController();
        const fd = openSync(to, 'w');
        const transfer = copy(opened(t, isNative ? '/dev/zero' : hole(t)), fd, {
          signal: controller.signal,
          length: GiB,
          zeroCopy,
        });
        await until(
          'bytes move',
          () => transfer.traffic.tx,
          (bytes) => bytes > 0,
        );
        const since = performance.now();
        controller.abort();
        const { code, traffic } = await failure(t, transfer);
        took.push(performance.now() - since);
        t.is(code, 'ABORT_ERR');
        t.true(traffic.tx > 0 && traffic.tx < GiB);
        t.is(statSync(to).size, traffic.tx);
        closeSync(fd);
      }
      t.log(took.map((ms) => `${ms.toFixed(1)} ms`).join());
      t.true(took.some((ms) => ms < 100));
    },
  );
}

test.serial('a copy and a sendFile whose signal has aborted move nothing', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  await peer.writeText(client, 'early');
  const reason = new Error('before');
  const options = { signal: AbortSignal.abort(reason) };
  const { path } = sample(t, 1000);
  for (const start of [() => copy(a, b, options), () => sendFile(path, b, options)]) {
    const error = await failure(t, start());
    t.like(error, { code: 'ABORT_ERR', traffic: { tx: 0, rx: 0, total: 0 } });
    t.is(error.cause, reason);
  }
  // Both sockets work, with what had come.
  t.is((await copy(a, b, { length: 5 })).tx, 5);
  t.is(await peer.readText(origin, 5), 'early');
});

test.serial('disposing in each phase waits for the end and never rejects', async (t) => {
  const peer = Peer.start(t);
  for (const [name, start] of Object.entries(PHASES)) {
    const { transfer } = await start(t, peer, new AbortController().signal);
    await within(5_000, `${name} is disposed of`, transfer[Symbol.asyncDispose]());
    t.is((await failure(t, transfer)).code, 'ABORT_ERR');
  }
  t.is(stats().active, 0);
});

test('AbortSignal.timeout gives its reason', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const error = await failure(t, relay(a, b, { signal: AbortSignal.timeout(100) }));
  t.like(error, { name: 'AbortError', code: 'ABORT_ERR', cause: { name: 'TimeoutError' } });
});
