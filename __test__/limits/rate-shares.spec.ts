// One limiter shared by several transfers, or by both directions of a relay: each gets an even share, and an unused share
// goes to the others.
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { RateLimiter, relay, type RelayOptions } from 'fdsplice';

import { KiB, MiB } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { steady } from '../helpers/wait.js';
import {
  ENDLESS,
  withAllowance,
  type Flow,
  flow,
  HIGHEST,
  keepsRate,
  KINDS,
  LOWEST,
  rateOver,
  started,
  TRIES,
  WINDOW_MS,
} from './measure.js';

nothingIsLeft(test, 'behind all tests');

/** The rate of each flow over one window, in parts of its even share. */
async function shares(flows: Flow[], each: number, ms: number): Promise<number[]> {
  const before = performance.now();
  const first = flows.map(({ moved }) => moved());
  await sleep(ms);
  const last = flows.map(({ moved }) => moved());
  const seconds = (performance.now() - before) / 1000;
  return last.map((bytes, index) => (bytes - (first[index] ?? 0)) / seconds / each);
}

async function sharesAre(t: ExecutionContext, flows: Flow[], each: number, ms = WINDOW_MS): Promise<void> {
  const seen: string[] = [];
  for (let round = 0; round < TRIES; round += 1) {
    const { found, least } = await withAllowance(() => shares(flows, each, ms));
    const middle = found.reduce((sum, share) => sum + share) / found.length;
    seen.push(`[${found.map((share) => share.toFixed(2)).join()}]`);
    // Each within 10 % of the mean, and all together at the limit.
    const fair = found.every((share) => Math.abs(share / middle - 1) <= 0.1);
    if (fair && middle >= least(LOWEST) && middle <= HIGHEST) {
      t.log(`shares: ${seen.join(' ')}`);
      t.pass();
      return;
    }
  }
  t.fail(`shares: ${seen.join(' ')}`);
}

for (const count of [1, 4, 16]) {
  test(`${count} relays share a limiter evenly`, async (t) => {
    const limiter = new RateLimiter(2 * MiB);
    const flows = await Promise.all(Array.from({ length: count }, () => flow(t, 'relay', limiter)));
    await Promise.all(flows.map(started));
    // A quantum is 10 ms' worth of the whole rate: in this window one turn more or less is below 10 % for each relay.
    await sharesAre(t, flows, (2 * MiB) / count, Math.max(WINDOW_MS, count * 300));
  });
}

for (const rate of [MiB, 24 * MiB]) {
  test(`a relay, a copy and a file share ${rate / MiB} MiB/s evenly`, async (t) => {
    const limiter = new RateLimiter(rate);
    const flows = await Promise.all(KINDS.map((kind) => flow(t, kind, limiter)));
    await Promise.all(flows.map(started));
    await sharesAre(t, flows, rate / 3);
  });
}

for (const reason of ['has nothing to send', 'is not read from'] as const) {
  test(`a transfer that ${reason} leaves its share to the others, and gets it back`, async (t) => {
    const limiter = new RateLimiter(MiB);
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    const transfer = relay(a, b, { rateLimit: limiter });
    t.teardown(() => transfer[Symbol.asyncDispose]());
    const pausing: Flow = { received: () => Promise.resolve(0), moved: () => transfer.traffic.tx };
    if (reason === 'is not read from') {
      limiter.bytesPerSecond = Infinity;
      peer.write(client, ENDLESS, 1).catch(() => {});
      await steady('the buffers are full', () => Promise.resolve(transfer.traffic.tx));
      limiter.bytesPerSecond = MiB;
    }
    const flows = [await flow(t, 'relay', limiter), await flow(t, 'copy', limiter)];
    await Promise.all(flows.map(started));
    await sharesAre(t, flows, MiB / 2);

    if (reason === 'has nothing to send') peer.write(client, ENDLESS, 1).catch(() => {});
    peer.readToEnd(origin).catch(() => {});
    await sleep(1_000);
    await sharesAre(t, [...flows, pausing], MiB / 3);
  });
}

/** Floods both directions of a relay, and counts at both receivers. */
async function flooded(
  t: ExecutionContext,
  rateLimit: RelayOptions['rateLimit'],
): Promise<Record<'tx' | 'rx', () => Promise<number>>> {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  for (const conn of [client, origin]) {
    peer.write(conn, ENDLESS, 1).catch(() => {});
    peer.readToEnd(conn).catch(() => {});
  }
  const transfer = relay(a, b, { rateLimit });
  t.teardown(() => transfer[Symbol.asyncDispose]());
  await sleep(300);
  const received = (conn: Conn) => async () => (await peer.counts(conn)).received;
  return { tx: received(origin), rx: received(client) };
}

test('tx and rx limit one direction each', async (t) => {
  const { tx, rx } = await flooded(t, { tx: 128 * KiB, rx: new RateLimiter(MiB) });
  await Promise.all([keepsRate(t, 'tx', tx, 128 * KiB), keepsRate(t, 'rx', rx, MiB)]);
});

for (const [limited, other] of [
  ['tx', 'rx'],
  ['rx', 'tx'],
] as const) {
  test(`a limit for ${limited} alone leaves ${other} unlimited`, async (t) => {
    const received = await flooded(t, { [limited]: 64 * KiB });
    await keepsRate(t, limited, received[limited], 64 * KiB, { lowest: 0.9 });
    t.true((await rateOver(received[other], 500)) > 4 * MiB);
  });
}

for (const [name, limit] of [
  ['a number', () => MiB],
  ['a limiter', () => new RateLimiter(MiB)],
  [
    'one limiter as both tx and rx',
    () => {
      const limiter = new RateLimiter(MiB);
      return { tx: limiter, rx: limiter };
    },
  ],
] as const) {
  test(`${name} limits both directions together`, async (t) => {
    const received = await flooded(t, limit());
    await keepsRate(t, 'both', async () => (await received.tx()) + (await received.rx()), MiB);
    const [tx, rx] = [await received.tx(), await received.rx()];
    t.true(Math.min(tx, rx) > 0.4 * (tx + rx), `${tx} and ${rx}: neither may keep the other waiting`);
  });
}
