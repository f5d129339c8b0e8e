// Aborts by signal and by disposal in each phase of each verb: the transfer ends at once, with exact counts.
import { getEventListeners } from 'node:events';
import { openSync, closeSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, stats, type Transfer } from 'fdsplice';

import { directory, GiB, KiB, MiB, opened, positionOf, sample } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { unanswered } from '../helpers/unanswered.js';
import { steady, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length;

interface Running {
  transfer: Transfer;
  /** Further assertions after the abort. */
  check?: () => unknown;
}

/** Starts a transfer with the signal and brings it to a phase. */
type Phase = (t: ExecutionContext, peer: Peer, signal: AbortSignal) => Promise<Running>;

const stalled = (transfer: Transfer) =>
  steady('the transfer moves nothing more', () => Promise.resolve(transfer.traffic.total), -1);

/** A pair whose client sends 1 GiB to an origin that does not read. */
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
  test.serial(`a ${name} ends at once when its signal aborts`, async (t) => {
    const peer = Peer.start(t);
    const took: number[] = [];
    // A busy machine may exceed the limit, so up to three attempts are made.
    while (took.length < 3 && !took.some((ms) => ms < 100)) {
      const controller = new AbortController();
      const { transfer, check } = await start(t, peer, controller.signal);
      await stalled(transfer);
      const { traffic } = transfer;
      const since = performance.now();
      controller.abort(name);
      const error = await failure(t, transfer);
      took.push(performance.now() - since);
      t.like(error, { name: 'AbortError', code: 'ABORT_ERR', cause: name });
      // A destination stream that stays open delivers what it has accepted, so those bytes count.
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

/** The path of a sparse file of 1 GiB. The stream engine reads regular files only. */
function hole(t: ExecutionContext): string {
  const path = join(directory(t), 'hole');
  writeFileSync(path, '');
  truncateSync(path, GiB);
  return path;
}

for (const zeroCopy of [true, false]) {
  test.serial(
    `a copy between files ends after the current call when its signal aborts, zeroCopy: ${zeroCopy}`,
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

test.serial('copy and sendFile move nothing if their signal is already aborted', async (t) => {
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
  // Both sockets still work, and the early bytes are there.
  t.is((await copy(a, b, { length: 5 })).tx, 5);
  t.is(await peer.readText(origin, 5), 'early');
});

test.serial('disposal in each phase waits for the end and never rejects', async (t) => {
  const peer = Peer.start(t);
  for (const [name, start] of Object.entries(PHASES)) {
    const { transfer } = await start(t, peer, new AbortController().signal);
    await within(5_000, `${name} is disposed of`, transfer[Symbol.asyncDispose]());
    t.is((await failure(t, transfer)).code, 'ABORT_ERR');
  }
  t.is(stats().active, 0);
});

test('the reason of AbortSignal.timeout becomes the cause of the error', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const error = await failure(t, relay(a, b, { signal: AbortSignal.timeout(100) }));
  t.like(error, { name: 'AbortError', code: 'ABORT_ERR', cause: { name: 'TimeoutError' } });
});
