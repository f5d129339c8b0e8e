// Aborts of a relay, by signal, by abort() and by disposal: what both peers and the caller observe.
import { getEventListeners } from 'node:events';

import test from 'ava';
import { relay } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until, within } from '../helpers/wait.js';
import { watch } from '../helpers/watch.js';

nothingIsLeft(test, 'behind all tests');

const MiB = 1 << 20;
const GiB = 1 << 30;

test('a signal that is already aborted ends the relay before any byte moves', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const seen = [watch(a), watch(b)];
  await peer.writeText(client, 'early');
  const reason = new Error('too late');
  const error = await failure(t, relay(a, b, { signal: AbortSignal.abort(reason) }));
  t.like(error, { name: 'AbortError', code: 'ABORT_ERR', traffic: { tx: 0, rx: 0, total: 0 } });
  t.is(error.cause, reason);
  t.is(error.errno, undefined);
  t.is(error.syscall, undefined);
  t.like(await peer.readToEnd(client), { bytes: 0, end: 'reset' });
  t.like(await peer.readToEnd(origin), { bytes: 0, end: 'reset' });
  await until('both sockets are closed', () => seen.every(({ close }) => close === 1), Boolean);
  t.deepEqual(
    seen.map(({ error, end }) => ({ error, end })),
    Array(2).fill({ error: 0, end: 0 }),
  );
});

test('a signal that is no enumerable property of the options is obeyed', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const options = Object.defineProperty({}, 'signal', { value: AbortSignal.abort('hidden') });
  t.is((await failure(t, relay(a, b, options))).cause, 'hidden');
});

test('a signal stops a relay while bytes move, and the error has the counts', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const controller = new AbortController();
  const transfer = relay(a, b, { signal: controller.signal });
  const endings = Promise.all([peer.readToEnd(client), peer.readToEnd(origin)]);
  const writing = [client, origin].map((conn) =>
    peer.write(conn, GiB, 1, { pauseMs: 1 }).catch((error: NodeJS.ErrnoException) => error.code),
  );
  await until(
    'bytes move both ways',
    () => transfer.traffic,
    ({ tx, rx }) => tx > MiB && rx > MiB,
  );
  const reason = { any: 'value' };
  controller.abort(reason);
  const error = await failure(t, transfer);
  t.like(error, { name: 'AbortError', code: 'ABORT_ERR' });
  t.is(error.cause, reason);
  t.is(error.side, undefined);
  t.deepEqual(transfer.traffic, error.traffic);
  t.true(error.traffic.tx > MiB && error.traffic.rx > MiB);
  const [atClient, atOrigin] = await endings;
  // The kernel reports a reset to each peer once: to its reader or to its writer.
  const [clientWrites, originWrites] = await Promise.all(writing);
  t.true(atClient.end === 'reset' || clientWrites === 'ECONNRESET');
  t.true(atOrigin.end === 'reset' || originWrites === 'ECONNRESET');
  // The reset may drop accepted bytes, but only accepted bytes can arrive.
  t.true(atOrigin.bytes <= error.traffic.tx && atOrigin.bytes > 0);
  t.true(atClient.bytes <= error.traffic.rx && atClient.bytes > 0);
});

for (const writer of ['client', 'origin'] as const) {
  const reader = writer === 'client' ? 'origin' : 'client';

  test(`abort() does not wait for the ${reader} to read`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    peer.write(made[writer], GiB, 1).catch(() => {});
    await steady('the writer blocks', () => peer.counts(made[writer]).then(({ sent }) => sent));
    const { total } = transfer.traffic;
    t.true(total > 0);

    const start = performance.now();
    transfer.abort();
    const error = await failure(t, transfer);
    t.log(`ended ${Math.round(performance.now() - start)} ms after the abort`);
    t.like(error, { name: 'AbortError', code: 'ABORT_ERR' });
    t.is(error.traffic.total, total);
    const ending = await peer.readToEnd(made[reader]);
    t.is(ending.end, 'reset');
    t.true(ending.bytes <= total);
  });
}

test('the reason of abort() becomes the cause of the error', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const transfer = relay(a, b);
  const reason = new Error('maintenance');
  transfer.abort(reason);
  transfer.abort(new Error('a second reason'));
  t.is((await failure(t, transfer)).cause, reason);
});

test('abort() without a reason has the same cause as a signal without one', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const transfer = relay(a, b);
  transfer.abort();
  const { cause } = await failure(t, transfer);
  t.true(cause instanceof DOMException);
  t.like(cause, { name: 'AbortError' });
});

test('an error omits the properties that do not apply to its failure', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const transfer = relay(a, b);
  transfer.abort();
  const error = await failure(t, transfer);
  for (const key of ['errno', 'syscall', 'side', 'undelivered']) t.false(key in error, key);
  for (const key of ['code', 'traffic', 'cause']) t.true(key in error, key);
});

test('an abort after the end changes nothing', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const controller = new AbortController();
  const transfer = relay(a, b, { signal: controller.signal });
  await peer.writeText(client, 'hello');
  await peer.shutdown(client);
  await peer.shutdown(origin);
  const endings = [await peer.readToEnd(client), await peer.readToEnd(origin)];
  t.deepEqual(
    endings.map(({ bytes, end }) => [bytes, end]),
    [
      [0, 'eof'],
      [5, 'eof'],
    ],
  );
  const result = await transfer;
  controller.abort();
  transfer.abort();
  t.is(await transfer, result);
  t.like(result, { tx: 5, rx: 0, error: null });
});

test('an abort with reject: false resolves with a result', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const transfer = relay(a, b, { reject: false });
  transfer.abort('a reason');
  const { error, ...counts } = await within(5000, 'the relay ends', transfer);
  t.like(error, { code: 'ABORT_ERR', cause: 'a reason' });
  t.like(counts, { tx: 0, rx: 0, total: 0, zeroCopy: 0 });
});

test('an abort over Unix sockets is an end of input for the peers, because these sockets have no reset', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'unix');
  const transfer = relay(a, b);
  await peer.writeText(client, 'hello');
  t.is(await peer.readText(origin, 5), 'hello');
  transfer.abort();
  t.like(await failure(t, transfer), { code: 'ABORT_ERR', traffic: { tx: 5, rx: 0, total: 5 } });
  t.like(await peer.readToEnd(client), { bytes: 0, end: 'eof' });
  t.like(await peer.readToEnd(origin), { bytes: 0, end: 'eof' });
});

test('a relay removes its listener from the signal when it ends', async (t) => {
  const peer = Peer.start(t);
  const controller = new AbortController();
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { signal: controller.signal });
  await peer.shutdown(client);
  await peer.shutdown(origin);
  await transfer;
  t.is(getEventListeners(controller.signal, 'abort').length, 0);
});

test('disposal of a running relay aborts it, waits for its end and handles its rejection', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b);
  await peer.writeText(client, 'hello');
  await peer.readText(origin, 5);
  // The test awaits `transfer` only later. If disposal left its rejection unhandled, the test run would fail.
  await within(5000, 'everything is released', transfer[Symbol.asyncDispose]());
  t.true(a.destroyed && b.destroyed);
  t.like(await peer.readToEnd(client), { end: 'reset' });
  t.like(await peer.readToEnd(origin), { end: 'reset' });
  t.like(await failure(t, transfer), { code: 'ABORT_ERR', traffic: { tx: 5, rx: 0, total: 5 } });
});

test('disposal of a finished relay does nothing', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b);
  await peer.shutdown(client);
  await peer.shutdown(origin);
  const result = await transfer;
  await transfer[Symbol.asyncDispose]();
  t.is(await transfer, result);
});

test('disposal of a failed relay does not reject', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  const transfer = relay(a, b);
  await peer.reset(client);
  await within(5000, 'everything is released', transfer[Symbol.asyncDispose]());
  t.pass();
});
