// idleTimeout and halfCloseTimeout: each measures what it is documented to measure, fires in time and not before, and ends
// the transfer on both sides.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, type RelayOptions, sendFile, type Transfer } from 'fdsplice';

import { GiB, KiB, MiB, opened, sample } from '../helpers/copy-files.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair, type Pair, type Transport } from '../helpers/pair.js';
import { type Conn, Peer, type PeerError } from '../helpers/peer.js';
import { unanswered } from '../helpers/unanswered.js';
import { steady, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

/** Allowed difference between the timers of two threads. */
const EARLY_MS = 15;

const state = (transfer: Transfer) =>
  Promise.race([transfer.then(() => 'ended', String), Promise.resolve().then(() => 'running')]);

/** Waits for the failure and checks that it did not come before the limit. */
async function timeout(t: ExecutionContext, transfer: Transfer, since: number, limit: number) {
  const error = await failure(t, transfer);
  const ms = performance.now() - since;
  t.log(`${error.code} after ${Math.round(ms)} of ${limit} ms`);
  t.true(ms >= limit - EARLY_MS, `${error.code} after ${ms} of ${limit} ms`);
  t.is(error.errno, undefined);
  t.is(error.syscall, undefined);
  t.deepEqual(transfer.traffic, error.traffic);
  return error;
}

/** Sends single bytes until stopped. */
function trickle(peer: Peer, conn: Conn, ms: number): () => Promise<number> {
  const stop = new AbortController();
  const sent = (async () => {
    let bytes = 0;
    while (!stop.signal.aborted) {
      await peer.writeText(conn, 'x').then(
        () => (bytes += 1),
        () => stop.abort(),
      );
      await sleep(ms);
    }
    return bytes;
  })();
  return () => {
    stop.abort();
    return sent;
  };
}

for (const transport of ['tcp', 'unix'] as const) {
  for (const first of ['client', 'origin'] as const) {
    const other = first === 'client' ? 'origin' : 'client';
    const open = first === 'client' ? 'b' : 'a';

    test(`${transport}: halfCloseTimeout ends a relay after the end of the ${first}, although bytes still flow`, async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer, transport);
      const limit = 800;
      const transfer = relay(made.a, made.b, { halfCloseTimeout: limit });
      const stop = trickle(peer, made[other], 50);
      // Two open directions are not half-open, however long they last.
      await sleep(1_000);
      t.is(await state(transfer), 'running');

      const since = performance.now();
      await peer.shutdown(made[first]);
      t.is((await peer.readToEnd(made[other])).end, 'eof');
      const error = await timeout(t, transfer, since, limit);
      t.like(error, { code: 'ERR_HALF_CLOSE_TIMEOUT', side: open, name: 'TransferError' });
      const sent = await stop();
      t.true(error.traffic.total > 5 && error.traffic.total <= sent, `${error.traffic.total} of ${sent}`);
      t.like(await peer.readToEnd(made[first]), { end: transport === 'tcp' ? 'reset' : 'eof' });
      if (transport === 'tcp') await wasReset(t, peer, made[other]);
    });
  }

  test(`${transport}: a second end within halfCloseTimeout ends the relay cleanly`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b, { halfCloseTimeout: 10_000 });
    await peer.writeText(client, 'question');
    await peer.shutdown(client);
    t.like(await peer.readToEnd(origin), { bytes: 8, end: 'eof' });
    await sleep(300);
    await peer.writeText(origin, 'answer');
    await peer.shutdown(origin);
    t.like(await peer.readToEnd(client), { bytes: 6, end: 'eof' });
    t.like(await within(5_000, 'the relay ends', transfer), { tx: 8, rx: 6, error: null });
  });

  test(`${transport}: idleTimeout ends a silent relay, and both peers see the end`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b, { idleTimeout: 1_500 });
    await sleep(300);
    const since = performance.now();
    await peer.writeText(client, 'hello');
    await peer.readText(origin, 5);
    const error = await timeout(t, transfer, since, 1_500);
    t.like(error, { code: 'ERR_IDLE_TIMEOUT', traffic: { tx: 5, rx: 0, total: 5 } });
    t.is(error.side, undefined);
    const end = transport === 'tcp' ? 'reset' : 'eof';
    t.like(await peer.readToEnd(client), { bytes: 0, end });
    t.like(await peer.readToEnd(origin), { bytes: 0, end });
  });
}

/**
 * Checks that a peer which had seen the end of input was then reset: its next bytes are refused. After a plain close the
 * first ones would still be accepted.
 */
async function wasReset(t: ExecutionContext, peer: Peer, conn: Conn): Promise<void> {
  await sleep(100);
  const { code } = await peer.writeText(conn, 'x').then(
    () => ({ code: 'accepted' }),
    (error: PeerError) => error,
  );
  t.true(['ECONNRESET', 'EPIPE'].includes(code), code);
}

test('halfCloseTimeout does not run while the ended direction still delivers bytes', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'unix', { origin: { rcvbuf: 4096 } });
  const transfer = relay(a, b, { halfCloseTimeout: 400 });
  const written = peer.write(client, 2 * MiB, 1).then(() => peer.shutdown(client));
  await steady('the destination is full', () => Promise.resolve(transfer.traffic.tx));
  // The end is queued behind bytes, so the direction has not ended yet.
  await sleep(800);
  t.is(await state(transfer), 'running');
  const since = performance.now();
  t.like(await peer.readToEnd(origin), { bytes: 2 * MiB, end: 'eof' });
  await written;
  const error = await timeout(t, transfer, since, 400);
  t.like(error, { code: 'ERR_HALF_CLOSE_TIMEOUT', side: 'b', traffic: { tx: 2 * MiB, rx: 0 } });
});

for (const role of ['client', 'origin'] as const) {
  test(`a byte now and then from the ${role} resets the idle timeout`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b, { idleTimeout: 1_000 });
    const stop = trickle(peer, made[role], 100);
    await sleep(4_000);
    t.is(await state(transfer), 'running');
    const sent = await stop();
    t.true(sent > 5);
    const error = await timeout(t, transfer, performance.now() - 100, 900);
    t.like(error, { code: 'ERR_IDLE_TIMEOUT', traffic: { total: sent } });
  });
}

for (const side of ['a', 'b'] as const) {
  test(`idleTimeout fires while ${side} waits for its connect`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    made[side].destroy();
    const ends = { ...made, [side]: await unanswered(t, peer) };
    const since = performance.now();
    const error = await timeout(t, relay(ends.a, ends.b, { idleTimeout: 400 }), since, 400);
    t.like(error, { code: 'ERR_IDLE_TIMEOUT', traffic: { total: 0 } });
    t.is(error.side, undefined);
    t.true(ends.a.destroyed && ends.b.destroyed);
    t.is((await peer.readToEnd(side === 'a' ? made.origin : made.client)).end, 'reset');
  });
}

test('idleTimeout fires while the destination does not accept the bytes that Node still has to write', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { origin: { rcvbuf: 4096 } });
  b.write(Buffer.alloc(32 * MiB));
  await peer.writeText(client, 'hello');
  const since = performance.now();
  const error = await timeout(t, copy(a, b, { idleTimeout: 400 }), since, 400);
  t.like(error, { code: 'ERR_IDLE_TIMEOUT' });
  // Both sockets still belong to the caller.
  peer.shutdown(client).catch(() => {});
  b.end();
  t.is((await peer.readToEnd(origin)).end, 'eof');
});

test('a byte now and then resets the idle timeout of a copy', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = copy(a, b, { idleTimeout: 1_000 });
  const stop = trickle(peer, client, 100);
  await sleep(3_000);
  t.is(await state(transfer), 'running');
  const sent = await stop();
  const error = await timeout(t, transfer, performance.now() - 100, 900);
  t.like(error, { code: 'ERR_IDLE_TIMEOUT', traffic: { tx: sent } });
  t.is(error.side, undefined);
  // Both sockets still belong to the caller, and work.
  a.resume();
  b.write('after');
  await peer.read(origin, sent);
  t.is(await peer.readText(origin, 5), 'after');
  const data = once(a, 'data');
  await peer.writeText(client, 'more');
  t.is(String(await data), 'more');
});

type Start = (
  t: ExecutionContext,
  made: Pair,
  options: Pick<RelayOptions, 'idleTimeout'> & Limited,
) => Transfer;
interface Limited {
  rateLimit?: number;
}

const VERBS: [name: string, start: Start][] = [
  ['relay', (_, { a, b }, options) => relay(a, b, options)],
  ['copy', (_, { a, b }, options) => copy(a, b, options)],
  ['copy of a file', (t, { b }, options) => copy(opened(t, sample(t, 8 * MiB).path), b, options)],
  ['copy of a device', (t, { b }, options) => copy(opened(t, '/dev/zero'), b, options)],
  ['sendFile', (t, { b }, options) => sendFile(sample(t, 8 * MiB).path, b, options)],
];

for (const [name, start] of VERBS) {
  const isDevice = name === 'copy of a device';
  for (const transport of ['tcp', 'unix'] as Transport[]) {
    const define = isDevice ? nativeTest : test;
    define(
      `${transport}, ${name}: idleTimeout fires when the destination accepts nothing`,
      async (t: ExecutionContext) => {
        const peer = Peer.start(t);
        const made = await pair(t, peer, transport, { origin: { rcvbuf: 16 * KiB } });
        peer.write(made.client, GiB, 1).catch(() => {});
        const transfer = start(t, made, { idleTimeout: 1_000 });
        // At its end a copy on streams also counts bytes that it cannot take back from the destination's queue: no movement.
        const showsMovement = isNative || name === 'relay';
        // The last byte moved after the sample before the one that saw it.
        let [last, since, sampled] = [0, performance.now(), performance.now()];
        const sampling = setInterval(() => {
          const { total } = transfer.traffic;
          if (total !== last) [last, since] = [total, showsMovement ? sampled : since];
          sampled = performance.now();
        }, 5);
        t.teardown(() => clearInterval(sampling));
        const error = await within(30_000, 'the transfer ends', transfer).then(
          () => t.fail('the transfer ended cleanly'),
          () => timeout(t, transfer, since, 1_000),
        );
        t.like(error, { code: 'ERR_IDLE_TIMEOUT', side: undefined });
        t.true(error.traffic.total > 0);
      },
    );
  }

  const define = isDevice ? nativeTest : test;
  define(`${name}: waiting for a limiter does not count as idle`, async (t: ExecutionContext) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    peer.write(made.client, GiB, 1).catch(() => {});
    peer.readToEnd(made.origin).catch(() => {});
    const transfer = start(t, made, { idleTimeout: 300, rateLimit: 1 });
    t.teardown(() => transfer[Symbol.asyncDispose]());
    await sleep(3_500);
    t.is(await state(transfer), 'running');
    // Bytes that Node had read before are passed on at once.
    t.true(transfer.traffic.tx > 0);
  });
}

test('idleTimeout fires on a silent relay with a rate limit', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { idleTimeout: 1_500, rateLimit: MiB });
  const since = performance.now();
  await peer.writeText(client, 'hello');
  await peer.readText(origin, 5);
  t.like(await timeout(t, transfer, since, 1_500), { code: 'ERR_IDLE_TIMEOUT', traffic: { tx: 5 } });
});

test('the earlier of two time limits ends the relay', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  const transfer = relay(a, b, { idleTimeout: 20_000, halfCloseTimeout: 300 });
  const since = performance.now();
  await peer.shutdown(client);
  t.like(await timeout(t, transfer, since, 300), { code: 'ERR_HALF_CLOSE_TIMEOUT', side: 'b' });
});

test('a timeout with reject: false resolves with a result', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const { error, ...counts } = await relay(a, b, { idleTimeout: 50, reject: false });
  t.like(error, { code: 'ERR_IDLE_TIMEOUT', message: 'no byte moved in time, after 0 bytes' });
  t.like(counts, { tx: 0, rx: 0, total: 0 });
});

test('time limits that are not reached do not delay the end', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { idleTimeout: 2 ** 31 - 1, halfCloseTimeout: 2 ** 31 - 1 });
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  t.like(await within(5_000, 'the relay ends', transfer), { total: 0 });
  await until('both are closed', () => a.closed && b.closed, Boolean);
});

for (const value of [0, -1, NaN, Infinity, 2 ** 31, '1', 1n, null]) {
  const code = typeof value === 'number' ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE';

  test(`${typeof value} ${String(value)} is rejected as a time limit`, async (t) => {
    const wrong = value as number;
    const idle = { idleTimeout: wrong, reject: false };
    for (const transfer of [relay(0, 1, idle), copy(0, 1, idle), sendFile('.', 1, idle)]) {
      await t.throwsAsync(transfer, { code, message: /idleTimeout/ });
    }
    await t.throwsAsync(relay(0, 1, { halfCloseTimeout: wrong }), { code, message: /halfCloseTimeout/ });
  });
}

test('halfCloseTimeout is rejected by copy, which has one direction', async (t) => {
  const options: object = { halfCloseTimeout: 1 };
  await t.throwsAsync(copy(0, 1, options), { code: 'ERR_INVALID_ARG_VALUE', message: /halfCloseTimeout/ });
});
