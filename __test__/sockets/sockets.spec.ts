// The two sockets of a relay as JavaScript sees them: events, listeners, writes, destruction, failed and pending connects,
// and idle timeouts.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { copy, relay, type Transfer } from 'fdsplice';

import { sha256 } from '../helpers/copy-files.js';
import { engine, isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, type Pair, pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { unanswered } from '../helpers/unanswered.js';
import { deferred, until, within } from '../helpers/wait.js';
import { watch } from '../helpers/watch.js';

nothingIsLeft(test, 'behind all tests');

test('a clean relay emits end and close once on both sockets, and neither error nor data', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const seen = [watch(a), watch(b)];
  let data = 0;
  for (const socket of [a, b]) {
    socket.on('data', () => (data += 1));
  }
  const transfer = relay(a, b);
  await Promise.all([peer.write(client, 1_000_000, 1), peer.read(origin, 1_000_000)]);
  await Promise.all([peer.write(origin, 1_000_000, 1), peer.read(client, 1_000_000)]);
  await peer.shutdown(client);
  await peer.shutdown(origin);
  await transfer;
  await until('both are closed', () => seen.every(({ close }) => close > 0), Boolean);
  await sleep(50);
  t.deepEqual(
    seen.map(({ order }) => order),
    [
      ['end', 'close'],
      ['end', 'close'],
    ],
  );
  t.is(data, 0);
  t.true(a.destroyed && b.destroyed);
  t.true(a.readableEnded && b.readableEnded);
});

for (const transport of ['tcp', 'unix'] as const) {
  test(`${transport}: a data listener that stays on a socket receives earlier bytes and no relayed ones`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    let received = '';
    for (const socket of [a, b]) socket.on('data', (chunk: Buffer) => (received += String(chunk)));
    await peer.writeText(client, 'before');
    await until(
      'Node has it',
      () => received,
      (text) => text === 'before',
    );
    const transfer = relay(a, b);
    const [there, back] = await Promise.all([
      peer.read(origin, 1_000_000),
      peer.read(client, 1_000_000),
      peer.write(client, 1_000_000, 1),
      peer.write(origin, 1_000_000, 2),
    ]);
    t.is(there.sha256, await peer.hash(1, 1_000_000));
    t.is(back.sha256, await peer.hash(2, 1_000_000));
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    t.like(await transfer, { tx: 1_000_000, rx: 1_000_000, engine });
    t.is(received, 'before');
    t.deepEqual([a.listenerCount('data'), b.listenerCount('data')], [1, 1]);
  });

  test(`${transport}: a data listener receives no copied bytes, and receives the bytes after the copy`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    let received = '';
    a.on('data', (chunk: Buffer) => (received += String(chunk)));
    await peer.writeText(client, 'before, ');
    await until(
      'Node has it',
      () => received,
      (text) => text === 'before, ',
    );
    const transfer = copy(a, b, { length: 6 });
    // In one write, so that the copy has to leave a part of it.
    await peer.writeText(client, 'copiedbehind');
    t.is(await peer.readText(origin, 6), 'copied');
    t.like(await transfer, { tx: 6, engine });
    await until(
      'the listener has the rest of the write',
      () => received,
      (text) => text === 'before, behind',
    );
    await peer.writeText(client, ', and more');
    await until(
      'the listener has later bytes',
      () => received,
      (text) => text === 'before, behind, and more',
    );
  });
}

test('a relay started in a data listener that stays continues right after the chunk of that listener', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const server = net.createServer();
  t.teardown(() => void server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bytes = randomBytes(8_000_000);
  const client = net.connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  t.teardown(() => client.destroy());
  const [a] = (await once(server, 'connection')) as [net.Socket];
  client.end(bytes);
  const received: Buffer[] = [];
  const begun = deferred<{ transfer: Transfer }>();
  a.on('data', (chunk: Buffer) => {
    received.push(chunk);
    begun.resolve({ transfer: relay(a, b) });
  });
  const { transfer } = await within(30_000, 'the first bytes come', begun.promise);
  const arrived = await peer.readToEnd(origin);
  await peer.shutdown(origin);
  client.resume();
  t.is(received.length, 1);
  const rest = bytes.subarray(received[0]?.length);
  t.deepEqual(arrived, { bytes: rest.length, sha256: sha256(rest), end: 'eof' });
  t.like(await transfer, { tx: rest.length, rx: 0, engine });
});

test('a side that ended cleanly has emitted end although the other side was reset later', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const seen = { a: watch(a), b: watch(b) };
  const transfer = relay(a, b);
  await peer.shutdown(client);
  t.is((await peer.readToEnd(origin)).end, 'eof');
  await peer.reset(origin);
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'b' });
  await until(
    'both are closed',
    () => seen.a.close + seen.b.close,
    (count) => count === 2,
  );
  t.deepEqual([seen.a.order, seen.b.order], [['end', 'close'], ['close']]);
});

for (const [ending, end] of Object.entries<(made: Pair, peer: Peer) => unknown>({
  'a reset of a': ({ client }, peer) => peer.reset(client),
  'a reset of b': ({ origin }, peer) => peer.reset(origin),
  'destroying a': ({ a }) => a.destroy(),
  'destroying b': ({ b }) => b.destroy(),
  'writing to a': ({ a }) => a.write('intruder'),
  // On native ends Node itself emits the error that the owner passed to destroy().
  ...(isNative
    ? {}
    : {
        'destroying a with an error': ({ a }: Pair) => a.destroy(new Error('enough')),
        'destroying both with errors': ({ a, b }: Pair) => [
          a.destroy(new Error('one')),
          b.destroy(new Error('other')),
        ],
      }),
})) {
  test(`the sockets of a relay never emit 'error': ${ending}`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const seen = [watch(made.a), watch(made.b)];
    const transfer = relay(made.a, made.b);
    await peer.writeText(made.client, 'hello');
    t.is(await peer.readText(made.origin, 5), 'hello');
    await end(made, peer);
    await failure(t, transfer);
    // Later errors are not emitted either, when the relay no longer listens.
    for (const socket of [made.a, made.b]) {
      socket.write('too late');
      socket.destroy(new Error('too late'));
    }
    await sleep(50);
    t.deepEqual(
      seen.map(({ order }) => order),
      [['close'], ['close']],
    );
  });
}

for (const side of ['a', 'b'] as const) {
  test(`a write to ${side} in JavaScript fails the relay`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const seen = [watch(made.a), watch(made.b)];
    const transfer = relay(made.a, made.b);
    await peer.writeText(made.client, 'hello');
    t.is(await peer.readText(made.origin, 5), 'hello');
    const callback = new Promise<unknown>((resolve) => made[side].write('intruder', resolve));
    const error = await failure(t, transfer);
    t.like(error, { code: 'ERR_INVALID_STATE', side, traffic: { tx: 5, rx: 0, total: 5 } });
    t.like(await within(5000, 'the write is answered', callback), { code: 'ERR_INVALID_STATE' });
    // No byte of that write was sent.
    t.like(await peer.readToEnd(made.client), { bytes: 0, end: 'reset' });
    t.like(await peer.readToEnd(made.origin), { bytes: 0, end: 'reset' });
    await until('both are closed', () => seen.every(({ close }) => close === 1), Boolean);
    t.deepEqual(
      seen.map((of) => of.error),
      [0, 0],
    );
  });

  for (const cause of [null, new Error('enough')]) {
    test(`destroying ${side} ${cause === null ? 'without' : 'with'} an error aborts the relay`, async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const seen = [watch(made.a), watch(made.b)];
      const transfer = relay(made.a, made.b);
      await peer.writeText(made.client, 'hello');
      t.is(await peer.readText(made.origin, 5), 'hello');
      made[side].destroy(cause ?? undefined);
      const error = await failure(t, transfer);
      t.like(error, { name: 'AbortError', code: 'ABORT_ERR', side, traffic: { tx: 5, rx: 0, total: 5 } });
      t.is(error.cause, cause);
      t.like(await peer.readToEnd(made.client), { bytes: 0, end: 'reset' });
      t.like(await peer.readToEnd(made.origin), { bytes: 0, end: 'reset' });
      await until('both are closed', () => seen.every(({ close }) => close === 1), Boolean);
      const other = side === 'a' ? made.b : made.a;
      t.true(other.destroyed);
      t.is(other.errored, null);
    });

    test(`${side} destroyed before the relay ${cause === null ? 'without' : 'with'} an error is reported in the result`, async (t) => {
      const peer = Peer.start(t);
      const nextPair = await crossing(t, peer, 'tcp');
      for (const reject of [true, false]) {
        const made = await nextPair();
        made[side].once('error', () => {});
        made[side].destroy(cause ?? undefined);
        const transfer = relay(made.a, made.b, { reject });
        const error = reject ? await failure(t, transfer) : (await transfer).error;
        t.like(error, { code: 'ERR_STREAM_DESTROYED', side, traffic: { tx: 0, rx: 0, total: 0 } });
        t.is(error?.cause, cause);
        const [other, end] = side === 'a' ? [made.b, made.origin] : [made.a, made.client];
        await until('the other socket is destroyed', () => other.destroyed, Boolean);
        t.like(await peer.readToEnd(end), { bytes: 0, end: 'reset' });
      }
    });
  }

  test(`a failed connect of ${side} is reported in the result and destroys the other side`, async (t) => {
    const peer = Peer.start(t);
    const nextPair = await crossing(t, peer, 'tcp');
    const port = await closedPort();
    for (const reject of [true, false]) {
      const made = await nextPair();
      const failing = net.connect(port, '127.0.0.1');
      const [kept, conn] = side === 'a' ? [made.b, made.origin] : [made.a, made.client];
      const seen = watch(kept);
      const transfer = side === 'a' ? relay(failing, kept, { reject }) : relay(kept, failing, { reject });
      const error = reject ? await failure(t, transfer) : (await transfer).error;
      t.like(error, { code: 'ECONNREFUSED', syscall: 'connect', side, traffic: { tx: 0, rx: 0, total: 0 } });
      t.is(typeof error?.errno, 'number');
      t.like(await peer.readToEnd(conn), { bytes: 0, end: 'reset' });
      // `failing` has no error listener, and Node's own error must not crash the process.
      await until('both are closed', () => failing.closed && kept.closed, Boolean);
      t.deepEqual(seen.order, ['close']);
    }
  });

  test(`destroying ${side} while it connects aborts the relay`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const { port } = await peer.listen({ port: 0 });
    const connecting = net.connect(port, '127.0.0.1');
    const [kept, conn] = side === 'a' ? [made.b, made.origin] : [made.a, made.client];
    const transfer = side === 'a' ? relay(connecting, kept) : relay(kept, connecting);
    connecting.destroy();
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', side });
    t.like(await peer.readToEnd(conn), { bytes: 0, end: 'reset' });
    t.true(kept.destroyed);
  });

  test(`an abort resets ${side} after it connected to a name with two addresses`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const { listener, port } = await peer.listen({ port: 0 });
    // Node tries the first address, is refused, and continues with another handle.
    const addresses = [
      { address: '::1', family: 6 },
      { address: '127.0.0.1', family: 4 },
    ];
    const connecting = net.connect({
      host: 'two.test',
      port,
      autoSelectFamily: true,
      lookup: (_name, _options, found) => process.nextTick(found, null, addresses),
    });
    const kept = side === 'a' ? made.b : made.a;
    const transfer = side === 'a' ? relay(connecting, kept) : relay(kept, connecting);
    const { conn } = await peer.accept(listener);
    await peer.writeText(conn, 'hello');
    t.is(await peer.readText(side === 'a' ? made.origin : made.client, 5), 'hello');
    transfer.abort();
    t.like(await failure(t, transfer), { code: 'ABORT_ERR' });
    t.like(await peer.readToEnd(conn), { bytes: 0, end: 'reset' });
  });

  test(`a client that is reset while ${side} still connects ends the relay`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const connecting = await unanswered(t, peer);
    const [kept, conn, keptSide] =
      side === 'a' ? ([made.b, made.origin, 'b'] as const) : ([made.a, made.client, 'a'] as const);
    const transfer = side === 'a' ? relay(connecting, kept) : relay(kept, connecting);
    await sleep(50);
    t.true(connecting.connecting);
    await peer.reset(conn);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side: keptSide });
    await until('the connecting socket is destroyed', () => connecting.destroyed, Boolean);
  });

  test(`an idle timeout set on ${side} fires when nothing flows, and not while native bytes do`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    let fired = 0;
    made[side].setTimeout(1500, () => (fired += 1));
    const transfer = relay(made.a, made.b);
    for (let round = 0; round < 40; round += 1) {
      await Promise.all([peer.writeText(made.client, 'x'), peer.readText(made.origin, 1)]);
      await sleep(100);
    }
    t.is(fired, 0);
    await until(
      'the timeout fires',
      () => fired,
      (count) => count === 1,
      10_000,
    );
    // The timeout is only an event: the relay continues.
    await Promise.all([peer.writeText(made.client, 'y'), peer.readText(made.origin, 1)]);
    await peer.shutdown(made.client);
    await peer.shutdown(made.origin);
    t.like(await transfer, { tx: 41, rx: 0 });
  });
}

/** A port on which nothing listens any more. */
async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
