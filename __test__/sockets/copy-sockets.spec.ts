// Sockets after and around copies: both directions at once, reading state, held writes, aborts, and several transfers on one
// socket.
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { copy, sendFile } from 'fdsplice';

import { directory, MiB, opened, sample, sha256 } from '../helpers/copy-files.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

function collected(socket: Socket): { bytes: () => Buffer } {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { bytes: () => Buffer.concat(chunks) };
}

for (const transport of ['tcp', 'unix'] as const) {
  test(`${transport}: two concurrent copies serve both directions of two sockets`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport, { server: { allowHalfOpen: true } });
    b.allowHalfOpen = true;
    const there = copy(a, b, { endDestination: true });
    const back = copy(b, a, { endDestination: true });
    const readings = [peer.readToEnd(origin), peer.readToEnd(client)] as const;
    const [question, answer] = await Promise.all([
      peer.write(client, 12 * MiB, 1),
      peer.write(origin, 9 * MiB, 2),
    ]);
    await peer.shutdown(client);
    t.like(await there, { tx: 12 * MiB, rx: 0 });
    t.deepEqual(await readings[0], { ...question, end: 'eof' });
    // The other direction continues.
    const more = await peer.write(origin, 5, 2);
    t.is(more.bytes, 5);
    await peer.shutdown(origin);
    t.like(await back, { tx: 9 * MiB + 5, rx: 0 });
    t.like(await readings[1], { bytes: 9 * MiB + 5, sha256: await peer.hash(2, 9 * MiB + 5), end: 'eof' });
    t.is(answer.bytes, 9 * MiB);
  });

  test(`${transport}: a replaced write of a socket stays replaced after a copy`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport, { server: { allowHalfOpen: true } });
    const written: unknown[] = [];
    const original: unknown = Reflect.get(b, 'write');
    const replaced = (...args: unknown[]) => {
      written.push(String(args[0]));
      return Boolean(Reflect.apply(original as () => boolean, b, args));
    };
    b.write = replaced;
    const copying = copy(a, b);
    await peer.writeText(client, 'copied');
    await peer.shutdown(client);
    t.like(await copying, { tx: 6, rx: 0, engine: 'stream' });
    t.is(Reflect.get(b, 'write'), replaced);
    b.write(', and from JavaScript');
    t.is(await peer.readText(origin, 27), 'copied, and from JavaScript');
    // A write of the socket's own sees the bytes, as one of its class does.
    t.deepEqual(written, ['copied', ', and from JavaScript']);
  });

  test(`${transport}: an abort of one of two copies over the same sockets leaves the other running`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const [there, back] = [copy(a, b), copy(b, a)];
    await peer.writeText(client, 'question');
    t.is(await peer.readText(origin, 8), 'question');
    there.abort();
    t.is((await failure(t, there)).traffic.tx, 8);
    await peer.writeText(origin, 'the answer');
    t.is(await peer.readText(client, 10), 'the answer');
    // Node reads the aborted direction again, and only that one.
    const seen = collected(a);
    await peer.writeText(client, 'for Node');
    await until(
      'Node has it',
      () => seen.bytes().toString(),
      (text) => text === 'for Node',
    );
    back.abort();
    t.is((await failure(t, back)).traffic.tx, 10);
    await peer.writeText(origin, 'for Node too');
    const other = collected(b);
    await until(
      'Node has it',
      () => other.bytes().toString(),
      (text) => text === 'for Node too',
    );
  });

  test(`${transport}: a flowing socket flows again after a copy into a file`, async (t) => {
    const peer = Peer.start(t);
    const { a, client } = await pair(t, peer, transport);
    const seen = collected(a);
    await peer.writeText(client, 'one ');
    await until(
      'the socket flows',
      () => seen.bytes().length,
      (length) => length === 4,
    );
    const path = join(directory(t), 'copy');
    const transfer = copy(a, opened(t, path, 'w'), { length: 3 * MiB });
    t.true(a.isPaused());
    const sent = await peer.write(client, 3 * MiB, 1);
    t.is((await transfer).tx, 3 * MiB);
    t.is(sha256(readFileSync(path)), sent.sha256);
    await peer.writeText(client, 'two');
    await until(
      'the socket flows again',
      () => seen.bytes().toString(),
      (text) => text === 'one two',
    );
    t.true(a.readableFlowing);
  });

  test(`${transport}: a paused or unread socket stays so after a copy`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    a.pause();
    b.on('readable', () => {});
    const into = opened(t, join(directory(t), 'into'), 'w');
    await peer.writeText(client, 'hello');
    await peer.writeText(origin, 'hello');
    t.is((await copy(a, into, { length: 5 })).tx, 5);
    t.is((await copy(b, into, { length: 5 })).tx, 5);
    t.true(a.isPaused());
    t.is(a.readableFlowing, false);
    t.is(b.readableFlowing, false);
    await peer.writeText(client, 'again');
    await sleep(100);
    t.is((a.read() as Buffer | null)?.toString(), 'again');
  });

  test(`${transport}: pause() and resume() right after a copy take effect on a paused socket`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    a.pause();
    b.pause();
    const into = opened(t, join(directory(t), 'into'), 'w');
    const aborted = copy(a, into);
    aborted.abort();
    await failure(t, aborted);
    const arrived = collected(a.resume());
    await peer.writeText(client, 'to be read');
    await until(
      'a flows',
      () => arrived.bytes().toString(),
      (text) => text === 'to be read',
    );
    t.is((await copy(b, into, { length: 0 })).tx, 0);
    b.pause();
    const kept = collected(b);
    await peer.writeText(origin, 'to be kept');
    await sleep(100);
    t.true(b.isPaused());
    t.is(kept.bytes().length, 0);
  });

  test(`${transport}: undelivered bytes of an aborted copy are the first that Node reads`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = copy(a, b);
    const bytes = 20 * MiB;
    const writing = peer.write(client, bytes, 1);
    await steady('the writer blocks', () => peer.counts(client).then(({ sent }) => sent));
    const seen = collected(a);
    t.is(seen.bytes().length, 0);
    transfer.abort();
    const { traffic, undelivered } = await failure(t, transfer);
    t.is(undelivered, undefined);
    await writing;
    a.resume();
    await until(
      'all bytes are in Node',
      () => seen.bytes().length,
      (length) => length === bytes - traffic.tx,
    );
    b.end(seen.bytes());
    t.like(await peer.readToEnd(origin), { bytes, sha256: await peer.hash(1, bytes), end: 'eof' });
  });

  test(`${transport}: a socket serves a file in one direction and a copy in the other`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer, transport);
    const { path, bytes } = sample(t, 8 * MiB);
    const into = join(directory(t), 'upload');
    const [up, down] = [copy(b, opened(t, into, 'w'), { length: 6 * MiB }), sendFile(path, b)];
    const [sent, read] = await Promise.all([peer.write(origin, 6 * MiB, 3), peer.read(origin, bytes.length)]);
    t.is((await up).tx, 6 * MiB);
    t.is((await down).tx, bytes.length);
    t.is(read.sha256, sha256(bytes));
    t.is(sha256(readFileSync(into)), sent.sha256);
  });
}

test('writes during the copy of a file follow it, also when the copy is aborted', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 24 * MiB);
  const transfer = copy(opened(t, path), b);
  const written: string[] = [];
  b.write(' one', () => written.push('one'));
  b.write(' two', () => written.push('two'));
  await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
  t.deepEqual(written, []);
  transfer.abort();
  b.end(' three');
  const { tx } = (await failure(t, transfer)).traffic;
  t.deepEqual(await peer.readToEnd(origin), {
    bytes: tx + 14,
    sha256: sha256(bytes.subarray(0, tx), ' one two three'),
    end: 'eof',
  });
  await until(
    'the callbacks have come',
    () => written.length,
    (length) => length === 2,
  );
});

test('a destination that is destroyed during the copy of a file ends the copy', async (t) => {
  const peer = Peer.start(t);
  const { b } = await pair(t, peer);
  const { path } = sample(t, 24 * MiB);
  for (const begin of [copy, sendFile]) {
    const { b: socket } = await pair(t, peer);
    const transfer = begin(opened(t, path), socket);
    await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
    socket.destroy();
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', side: 'destination', cause: null });
  }
  b.destroy();
  t.like(await failure(t, sendFile(path, b)), { code: 'ERR_STREAM_DESTROYED', side: 'destination' });
  t.like(await failure(t, copy(opened(t, path), b)), { code: 'ERR_STREAM_DESTROYED', side: 'destination' });
});

test('a reset by the reader of a file fails the transfer at the destination', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path } = sample(t, 24 * MiB);
  const transfer = sendFile(path, b);
  await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
  await peer.reset(origin);
  const error = await failure(t, transfer);
  t.is(error.side, 'destination');
  t.true(['ECONNRESET', 'EPIPE'].includes(error.code), error.code);
  t.true(error.traffic.tx > 0);
});
