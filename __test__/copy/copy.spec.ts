// Copies between sockets: length, head, buffered bytes, held writes, aborts and resets. Both sockets stay the caller's and
// keep working, and no byte is lost.
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { copy } from 'fdsplice';

import { engine, nativeTest } from '../helpers/engine.js';
import { descriptorOf } from '../helpers/descriptors.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const MiB = 1 << 20;

const sha256 = (...parts: (string | Buffer)[]): string =>
  createHash('sha256')
    .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
    .digest('hex');

/** Reads in Node until `bytes` bytes have arrived. */
async function take(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const collect = (chunk: Buffer) => chunks.push(chunk);
  socket.on('data', collect);
  socket.resume();
  const length = () => chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  await until(`${bytes} bytes arrive in Node`, length, (sum) => sum >= bytes);
  socket.pause();
  socket.off('data', collect);
  return Buffer.concat(chunks);
}

for (const transport of ['tcp', 'unix'] as const) {
  test(`${transport}: length takes that many bytes and leaves the rest in the source`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = copy(a, b, { length: 5 });
    await peer.writeText(client, 'hello world');
    t.like(await transfer, { tx: 5, rx: 0, total: 5, engine, error: null });
    t.is(await peer.readText(origin, 5), 'hello');
    t.is((await take(a, 6)).toString(), ' world');
    // Both sockets work in Node as before.
    await peer.writeText(client, 'again');
    t.is((await take(a, 5)).toString(), 'again');
    a.write('to client');
    b.write('to origin');
    t.is(await peer.readText(client, 9), 'to client');
    t.is(await peer.readText(origin, 9), 'to origin');
    await peer.writeText(origin, 'answer');
    t.is((await take(b, 6)).toString(), 'answer');
    t.false(a.destroyed || b.destroyed);
  });

  test(`${transport}: length cuts a large stream at the exact byte`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport, { untouched: true });
    const total = 20 * MiB;
    const length = 15 * MiB + 12_345;
    const writing = peer.write(client, total, 1);
    const [result, read] = await Promise.all([copy(a, b, { length }), peer.read(origin, length)]);
    t.is(result.tx, length);
    t.is(read.sha256, await peer.hash(1, length));
    // Node itself pipes the rest, which checks it.
    const rest = peer.read(origin, total - length);
    a.pipe(b);
    await writing;
    t.is((await rest).bytes, total - length);
    t.is((await peer.counts(origin)).received, total);
  });

  test(`${transport}: consecutive copies each take their part`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const writing = peer.write(client, 3 * MiB, 1);
    const reading = peer.read(origin, 3 * MiB);
    for (const length of [1, MiB, 0, 2 * MiB - 1]) {
      t.is((await copy(a, b, { length })).tx, length);
    }
    t.deepEqual(await reading, await writing);
  });

  test(`${transport}: a copy without length goes to the end of input and leaves the destination open`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport, { server: { allowHalfOpen: true } });
    const transfer = copy(a, b, { head: Buffer.from('head, ') });
    await peer.writeText(client, 'all');
    await peer.shutdown(client);
    t.like(await transfer, { tx: 9, rx: 0, total: 9 });
    t.is(await peer.readText(origin, 9), 'head, all');
    b.write(' and more');
    t.is(await peer.readText(origin, 9), ' and more');
    t.false(b.destroyed);
    await until('the source has ended', () => a.readableEnded || a.readable, Boolean);
    a.write('still open');
    t.is(await peer.readText(client, 10), 'still open');
  });

  test(`${transport}: an end of input before length is success with a smaller count`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = copy(a, b, { length: 1000 });
    await peer.writeText(client, 'short');
    await peer.shutdown(client);
    t.like(await transfer, { tx: 5, error: null });
    t.is(await peer.readText(origin, 5), 'short');
  });

  test(`${transport}: endDestination ends the destination after the last byte`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = copy(a, b, { length: MiB, endDestination: true });
    const reading = peer.readToEnd(origin);
    await peer.write(client, MiB, 1);
    t.deepEqual(await reading, { bytes: MiB, sha256: await peer.hash(1, MiB), end: 'eof' });
    t.is((await transfer).tx, MiB);
    // The other direction of the destination still works.
    await peer.writeText(origin, 'answer');
    t.is((await take(b, 6)).toString(), 'answer');
  });

  test(`${transport}: head, buffered bytes and later bytes are copied in order, cut at length`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    await peer.writeText(client, 'buffered');
    await until(
      'Node has it',
      () => a.readableLength,
      (length) => length === 8,
    );
    t.is((await copy(a, b, { head: Buffer.from('head'), length: 3 })).tx, 7);
    t.is(await peer.readText(origin, 7), 'headbuf');
    const transfer = copy(a, b, { length: 9 });
    await peer.writeText(client, 'late, rest');
    t.is((await transfer).tx, 9);
    t.is(await peer.readText(origin, 9), 'feredlate');
    t.is((await take(a, 6)).toString(), ', rest');
  });

  test(`${transport}: writes to the destination during a copy follow the copied bytes`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const before = randomBytes(4 * MiB);
    b.write(before);
    const transfer = copy(a, b, { length: 2 * MiB });
    let flushed = 0;
    b.write('held, ', () => (flushed += 1));
    b.end('ended', () => (flushed += 1));
    const first = peer.write(client, MiB, 1);
    t.is((await peer.read(origin, before.length)).sha256, sha256(before));
    const middle = peer.read(origin, 2 * MiB);
    await first;
    await sleep(200);
    t.is(flushed, 0);
    await peer.write(client, MiB, 1);
    t.is((await middle).sha256, await peer.hash(1, 2 * MiB));
    t.is((await transfer).tx, 2 * MiB);
    t.deepEqual(await peer.readToEnd(origin), { bytes: 11, sha256: sha256('held, ended'), end: 'eof' });
    await until(
      'the callbacks have come',
      () => flushed,
      (count) => count === 2,
    );
  });

  test(`${transport}: undelivered bytes are back in the source after an abort`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = copy(a, b);
    const bytes = 16 * MiB;
    const writing = peer.write(client, bytes, 1);
    await steady('the writer blocks', () => peer.counts(client).then(({ sent }) => sent));
    transfer.abort();
    const { traffic, code, undelivered } = await failure(t, transfer);
    t.is(code, 'ABORT_ERR');
    t.is(undelivered, undefined);
    t.true(traffic.tx > 0 && traffic.tx < bytes);
    t.false(a.destroyed || b.destroyed);
    const arrived = await peer.read(origin, traffic.tx);
    t.is(arrived.sha256, await peer.hash(1, traffic.tx));
    // Node forwards the rest, which completes the stream.
    const rest = await take(a, bytes - traffic.tx);
    t.is(rest.length, bytes - traffic.tx);
    await writing;
    b.end(rest);
    t.like(await peer.readToEnd(origin), { bytes: rest.length, sha256: sha256(rest), end: 'eof' });
  });

  nativeTest(
    `${transport}: undelivered bytes of a failed copy between numbers are in the error`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport, { untouched: true });
      const transfer = copy(descriptorOf(a), descriptorOf(b));
      const bytes = 16 * MiB;
      const writing = peer.write(client, bytes, 1);
      await steady('the writer blocks', () => peer.counts(client).then(({ sent }) => sent));
      transfer.abort();
      const { traffic, undelivered } = await failure(t, transfer);
      // In order: bytes that arrived, bytes that were held, and bytes not read yet.
      const arrived = await peer.read(origin, traffic.tx);
      t.is(arrived.sha256, await peer.hash(1, traffic.tx));
      const underWay = undelivered ?? Buffer.alloc(0);
      const left = await take(a, bytes - traffic.tx - underWay.length);
      await writing;
      b.end(Buffer.concat([underWay, left]));
      const ending = await peer.readToEnd(origin);
      t.is(traffic.tx + ending.bytes, bytes);
      t.is(ending.sha256, sha256(underWay, left));
    },
  );
}

nativeTest('a copy between numbers moves every byte and closes neither number', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { untouched: true });
  const transfer = copy(descriptorOf(a), descriptorOf(b));
  const reading = peer.read(origin, 8 * MiB);
  t.deepEqual(await peer.write(client, 8 * MiB, 1), await reading);
  await peer.shutdown(client);
  t.like(await transfer, { tx: 8 * MiB, rx: 0 });
  b.write('more');
  t.is(await peer.readText(origin, 4), 'more');
});

nativeTest('a bulk copy over TCP stays in the kernel', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = copy(a, b, { endDestination: true });
  const reading = peer.readToEnd(origin);
  const sent = await peer.write(client, 128 * MiB, 1);
  await peer.shutdown(client);
  t.deepEqual(await reading, { ...sent, end: 'eof' });
  const { tx, zeroCopy } = await transfer;
  t.is(tx, 128 * MiB);
  t.true(zeroCopy >= 0.9 * tx, `${zeroCopy} of ${tx}`);
});

test('a reset of the destination fails the copy on that side, and the source stays usable', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = copy(a, b);
  await peer.writeText(client, 'hello');
  t.is(await peer.readText(origin, 5), 'hello');
  await peer.reset(origin);
  await peer.writeText(client, 'into the void');
  await peer.writeText(client, ', and more of it');
  const error = await failure(t, transfer);
  t.is(error.side, 'destination');
  t.true(error.code === 'ECONNRESET' || error.code === 'EPIPE', error.code);
  t.false(a.destroyed);
  a.write('still here');
  t.is(await peer.readText(client, 10), 'still here');
});

test('a reset of the source fails the copy on that side, and the destination stays usable', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = copy(a, b);
  await peer.writeText(client, 'hello');
  t.is(await peer.readText(origin, 5), 'hello');
  await peer.reset(client);
  t.like(await failure(t, transfer), {
    code: 'ECONNRESET',
    side: 'source',
    traffic: { tx: 5, rx: 0, total: 5 },
  });
  t.false(b.destroyed);
  b.write('still here');
  t.is(await peer.readText(origin, 10), 'still here');
});
