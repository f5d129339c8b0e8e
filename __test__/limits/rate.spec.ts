import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { RateLimiter, relay } from 'fdsplice';

import { GiB, KiB, MiB } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import {
  ENDLESS,
  excused,
  type Flow,
  flow,
  HIGHEST,
  keeps,
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
  test.serial(`${kind}: 100 MiB/s are kept`, async (t) => {
    const limiter = new RateLimiter(100 * MiB);
    const running = await flow(t, kind, limiter);
    await started(running);
    const seen: string[] = [];
    let isKept = false;
    for (let round = 0; round < TRIES && !isKept; round += 1) {
      const { found, least } = await excused(() => rateOver(running.received));
      const ratio = found / (100 * MiB);
      seen.push(ratio.toFixed(3));
      t.true(ratio <= HIGHEST, seen.join());
      isKept = ratio >= least(LOWEST);
    }
    t.log(`${seen.join(', ')} of the limit`);
    if (!isKept) {
      // Too slow: is it the limiter, or could the machine do no more?
      limiter.bytesPerSecond = Infinity;
      await sleep(200);
      const unlimited = await rateOver(running.received, 1_000);
      t.log(`without a limit: ${Math.round(unlimited / MiB)} MiB/s`);
      t.true(unlimited < 150 * MiB, `${seen.join(', ')} of a limit that the machine could reach`);
    }
  });

  test.serial(`${kind}: 1 GiB/s are not exceeded`, async (t) => {
    const running = await flow(t, kind, GiB);
    await started(running);
    await keeps(t, kind, running.received, GiB, { lowest: 0.01 });
  });

  for (const rate of [16 * KiB, MiB]) {
    test(`${kind}: ${rate / KiB} KiB/s are kept`, async (t) => {
      const running = await flow(t, kind, rate);
      await started(running);
      await keeps(t, kind, running.received, rate);
    });
  }

  test(`${kind}: a limit that falls far does not stop the flow`, async (t) => {
    const limiter = new RateLimiter(50 * MiB);
    const running = await flow(t, kind, limiter);
    await started(running);
    // More than once, because it depends on where the transfer stands at the change.
    for (let round = 0; round < 4; round += 1) {
      limiter.bytesPerSecond = 32 * KiB;
      await sleep(400);
      // Each measured once: a second window would pardon a pause that lasts for the first.
      const ratio = (await rateOver(running.received, 1_000)) / (32 * KiB);
      t.true(ratio > 0.7 && ratio < 1.4, `${ratio.toFixed(3)} of the new limit`);
      limiter.bytesPerSecond = 50 * MiB;
      await sleep(150);
    }
  });
}

/** What bytes per second flow behind a change, with what was still on its way before it read meanwhile. */
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
      const what = `${kind} at ${rate / KiB} KiB/s`;
      await keeps(t, what, running.received, rate, { lowest: 0.9, highest: 1.1 });
    }
  }
}

test.serial('a new limit is in force at once, Infinity is none', async (t) => {
  await Promise.all(KINDS.map((kind) => changes(t, kind)));
});

test('limiting keeps the sender waiting', async (t) => {
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
  // What lies between is in two buffers of the kernel, and never grows.
  t.true(sent - tx < 2 * MiB, `${sent - tx} bytes on their way`);
});

test('a low rate is a stream of small pieces', async (t) => {
  const rate = 16 * KiB;
  const running = await flow(t, 'relay', rate);
  await started(running);
  const rounds: { gap: number; surplus: number }[] = [];
  const calm = () => rounds.some(({ gap, surplus }) => gap < 250 && surplus < 2 * KiB);
  while (rounds.length < TRIES && !calm()) rounds.push(await evenness(running, rate));
  t.log(JSON.stringify(rounds));
  t.true(calm(), JSON.stringify(rounds));
});

/** The longest pause between arrivals, and by how much any of them was more than that pause's worth. */
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

test('a burst goes at once after a pause, and no more than it', async (t) => {
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
  // At the rate alone the first part would take 2 s, and twice the burst would take nothing.
  t.true(burst < 1_500 && rest > 1_800, `${burst} ms, ${rest} ms`);
});
