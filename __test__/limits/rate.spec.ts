// Rate limits of each verb: the rate is kept, a change takes effect at once, a low rate stays even, and a limit holds back
// the sender.
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { RateLimiter, relay } from 'fdsplice';

import { GiB, KiB, MiB } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import {
  ENDLESS,
  withAllowance,
  type Flow,
  flow,
  HIGHEST,
  keepsRate,
  type Kind,
  KINDS,
  LOWEST,
  mark,
  rateOver,
  started,
  TRIES,
  WINDOW_MS,
} from './measure.js';

nothingIsLeft(test, 'behind all tests');

for (const kind of KINDS) {
  test.serial(`${kind}: a limit of 100 MiB/s is kept`, async (t) => {
    const limiter = new RateLimiter(100 * MiB);
    const running = await flow(t, kind, limiter);
    await started(running);
    const seen: string[] = [];
    let isKept = false;
    for (let round = 0; round < TRIES && !isKept; round += 1) {
      const { found, least } = await withAllowance(() => rateOver(running.received));
      const ratio = found / (100 * MiB);
      seen.push(ratio.toFixed(3));
      t.true(ratio <= HIGHEST, seen.join());
      isKept = ratio >= least(LOWEST);
    }
    t.log(`${seen.join(', ')} of the limit`);
    if (!isKept) {
      // Too slow: without a limit it shows whether the machine could do more.
      limiter.bytesPerSecond = Infinity;
      await sleep(200);
      const unlimited = await rateOver(running.received, 1_000);
      t.log(`without a limit: ${Math.round(unlimited / MiB)} MiB/s`);
      t.true(unlimited < 150 * MiB, `${seen.join(', ')} of a limit that the machine could reach`);
    }
  });

  test.serial(`${kind}: a limit of 1 GiB/s is not exceeded`, async (t) => {
    const running = await flow(t, kind, GiB);
    await started(running);
    await keepsRate(t, kind, running.received, GiB, { lowest: 0.01 });
  });

  for (const rate of [16 * KiB, MiB]) {
    test(`${kind}: a limit of ${rate / KiB} KiB/s is kept`, async (t) => {
      const running = await flow(t, kind, rate);
      await started(running);
      await keepsRate(t, kind, running.received, rate);
    });
  }

  test(`${kind}: a limit that is lowered by a large factor does not stop the flow`, async (t) => {
    const limiter = new RateLimiter(50 * MiB);
    const running = await flow(t, kind, limiter);
    await started(running);
    // Several rounds, because the outcome depends on the moment of the change.
    for (let round = 0; round < 4; round += 1) {
      limiter.bytesPerSecond = 32 * KiB;
      await sleep(400);
      // One window a round: a second one would hide a pause during the first.
      const ratio = (await rateOver(running.received, 1_000)) / (32 * KiB);
      t.true(ratio > 0.7 && ratio < 1.4, `${ratio.toFixed(3)} of the new limit`);
      limiter.bytesPerSecond = 50 * MiB;
      await sleep(150);
    }
  });
}

/** Checks the rate after each change, once bytes in flight from before the change have been read. */
async function changes(t: ExecutionContext, kind: Kind): Promise<void> {
  const limiter = new RateLimiter(256 * KiB);
  const running = await flow(t, kind, limiter);
  await started(running);
  for (const rate of [4 * MiB, 64 * KiB, Infinity, 16 * KiB]) {
    limiter.bytesPerSecond = rate;
    t.is(limiter.bytesPerSecond, rate);
    await sleep(rate < MiB ? 500 : 100);
    if (rate === Infinity) {
      const unlimited = await rateOver(running.received, 500);
      t.log(`${kind} without a limit: ${Math.round(unlimited / MiB)} MiB/s`);
      t.true(unlimited > 8 * MiB, String(unlimited));
    } else {
      const label = `${kind} at ${rate / KiB} KiB/s`;
      await keepsRate(t, label, running.received, rate, { lowest: 0.9, highest: 1.1 });
    }
  }
}

test.serial('a new limit takes effect at once, and Infinity removes it', async (t) => {
  await Promise.all(KINDS.map((kind) => changes(t, kind)));
});

test('a rate limit holds back the sender', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { client: { sndbuf: 64 * KiB } });
  const transfer = relay(a, b, { rateLimit: 16 * KiB });
  t.teardown(() => transfer[Symbol.asyncDispose]());
  peer.readToEnd(origin).catch(() => {});
  peer.write(client, ENDLESS, 1).catch(() => {});
  await sleep(WINDOW_MS);
  const { sent } = await peer.counts(client);
  const { tx } = transfer.traffic;
  t.log(`${sent} bytes taken from the sender, ${tx} passed on`);
  t.true(tx > 0);
  // The difference is held in two buffers of the kernel and does not grow.
  t.true(sent - tx < 2 * MiB, `${sent - tx} bytes on their way`);
});

test('a low rate sends many small pieces', async (t) => {
  const rate = 16 * KiB;
  const running = await flow(t, 'relay', rate);
  await started(running);
  const rounds: { gap: number; surplus: number }[] = [];
  const calm = () => rounds.some(({ gap, surplus }) => gap < 250 && surplus < 2 * KiB);
  while (rounds.length < TRIES && !calm()) rounds.push(await evenness(running, rate));
  t.log(JSON.stringify(rounds));
  t.true(calm(), JSON.stringify(rounds));
});

/** The longest pause between arrivals, and the largest excess of an arrival over the bytes due in its pause. */
async function evenness({ received }: Flow, rate: number): Promise<{ gap: number; surplus: number }> {
  let last = await mark(received);
  let [gap, surplus] = [0, 0];
  const end = performance.now() + WINDOW_MS;
  while (performance.now() < end) {
    const next = await mark(received);
    if (next.bytes === last.bytes) continue;
    const ms = next.at - last.at;
    gap = Math.max(gap, ms);
    surplus = Math.max(surplus, next.bytes - last.bytes - (rate * ms) / 1000);
    last = next;
  }
  return { gap: Math.round(Math.max(gap, performance.now() - last.at)), surplus: Math.round(surplus) };
}

test('a pause allows one burst at once, and no more', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { rateLimit: new RateLimiter(64 * KiB, { burst: 128 * KiB }) });
  t.teardown(() => transfer[Symbol.asyncDispose]());
  await sleep(4_000);
  const start = performance.now();
  const arrives = async (bytes: number) => {
    await peer.read(origin, bytes);
    return performance.now() - start;
  };
  peer.write(client, 256 * KiB, 1).catch(() => {});
  const [burst, rest] = [await arrives(127 * KiB), await arrives(128 * KiB)];
  t.log(`the burst after ${Math.round(burst)} ms, the rest after ${Math.round(rest)} ms`);
  // Without a burst the first part would take 2 s; with twice the burst the rest would take no time.
  t.true(burst < 1_500 && rest > 1_800, `${burst} ms, ${rest} ms`);
});
