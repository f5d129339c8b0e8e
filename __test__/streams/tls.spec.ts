// Relays and copies with a TLS socket as one end: bytes go through the session, never to the socket below it, and a failure
// never looks like a clean end.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';

import test from 'ava';
import { copy, relay, sendFile } from 'fdsplice';

import { MiB, opened, sample, sha256 } from '../helpers/copy-files.js';
import { descriptorOf } from '../helpers/descriptors.js';
import { coreTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { identity, trust } from '../helpers/tls.js';
import { until, within } from '../helpers/wait.js';
import { all, listening, session } from './ends.js';

nothingIsLeft(test, 'behind all tests');

for (const first of ['client', 'origin'] as const) {
  test(`a TLS client is relayed to a plain origin in both directions, the ${first} ending first`, async (t) => {
    const peer = Peer.start(t);
    const { inner, outer } = await session(t);
    const { b, origin } = await pair(t, peer);
    const transfer = relay(inner, b);
    const [up, down] = [randomBytes(3 * MiB), 2 * MiB];
    const received = all(outer);
    outer.write(up);
    t.is((await peer.read(origin, up.length)).sha256, sha256(up));
    const sent = await peer.write(origin, down, 7);
    if (first === 'client') outer.end();
    else await peer.shutdown(origin);
    if (first === 'client') {
      t.like(await peer.readToEnd(origin), { bytes: 0, end: 'eof' });
      // The other direction continues.
      await peer.writeText(origin, 'more');
      await peer.shutdown(origin);
    } else {
      t.is(sha256(await received), sent.sha256);
      outer.end('more');
      t.is(await peer.readText(origin, 4), 'more');
      t.like(await peer.readToEnd(origin), { end: 'eof' });
    }
    const extra = first === 'client' ? { tx: 0, rx: 4 } : { tx: 4, rx: 0 };
    const result = await within(20_000, 'the relay ends', transfer);
    t.like(result, {
      tx: up.length + extra.tx,
      rx: down + extra.rx,
      zeroCopy: 0,
      engine: 'stream',
      error: null,
    });
    if (first === 'client') t.is((await received).length, down + 4);
    await until('both are closed', () => inner.closed && b.closed, Boolean);
  });
}

test('bytes sent into a TLS session never appear on the wire in plain text', async (t) => {
  const server = tls.createServer(identity);
  const port = await listening(t, server);
  const wire: Buffer[] = [];
  const between = net.createServer((client) => {
    const origin = net.connect(port, '127.0.0.1');
    for (const socket of [client, origin]) {
      socket.on('data', (chunk: Buffer) => wire.push(chunk)).on('error', () => {});
      t.teardown(() => socket.destroy());
    }
    client.pipe(origin).pipe(client);
  });
  const outer = tls.connect({ port: await listening(t, between), host: '127.0.0.1', ...trust });
  const [inner] = (await once(server, 'secureConnection')) as [tls.TLSSocket];
  const { path, bytes } = sample(t, 300_000);
  const received = all(outer);
  // By path, by number and from a socket: none of them reaches the descriptor below the session.
  await sendFile(path, inner);
  await copy(opened(t, path), inner);
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer);
  await peer.write(client, 100_000, 3);
  await copy(a, inner, { length: 100_000, endDestination: true });
  t.is((await received).length, 700_000);
  t.is(Buffer.concat(wire).indexOf(bytes.subarray(5000, 5024)), -1);
  outer.destroy();
});

test('a reset of the plain side resets the TLS side, which sees no clean end', async (t) => {
  const peer = Peer.start(t);
  const { inner, outer } = await session(t);
  const { b, origin } = await pair(t, peer);
  const transfer = relay(inner, b, { reject: false });
  await peer.writeText(origin, 'part');
  const seen: string[] = [];
  outer.on('end', () => seen.push('end')).on('error', (error: Error) => seen.push(error.message));
  outer.on('data', (chunk: Buffer) => seen.push(chunk.toString()));
  await until('the bytes arrive', () => seen.length, Boolean);
  await peer.reset(origin);
  t.like((await transfer).error, { code: 'ECONNRESET', side: 'b', traffic: { rx: 4 } });
  await until('the client sees the end', () => outer.closed, Boolean);
  t.deepEqual([seen[0], seen.length], ['part', 2], String(seen));
  t.regex(String(seen[1]), /ECONNRESET/);
});

test('a destroyed side resets the other side, TLS or plain', async (t) => {
  const peer = Peer.start(t);
  for (const side of ['a', 'b'] as const) {
    const { inner, outer } = await session(t);
    const { b, origin } = await pair(t, peer);
    const transfer = relay(inner, b, { reject: false });
    const cause = new Error('enough');
    (side === 'a' ? inner : b).destroy(cause);
    t.like((await transfer).error, { name: 'AbortError', code: 'ABORT_ERR', side, cause });
    t.like(await peer.readToEnd(origin), { end: 'reset' });
    await until('the client sees the end', () => outer.closed, Boolean);
    t.false(outer.readableEnded);
  }
});

for (const [ending, options, expected] of [
  ['an idle timeout', { idleTimeout: 300 }, { code: 'ERR_IDLE_TIMEOUT', side: undefined }],
  ['an abort', { abortAfter: 300 }, { code: 'ABORT_ERR', side: undefined }],
] as const) {
  test(`${ending} ends a relay with a TLS side and resets both sides`, async (t) => {
    const peer = Peer.start(t);
    const { inner, outer } = await session(t);
    const { b, origin } = await pair(t, peer);
    const { abortAfter, ...limits } = { abortAfter: undefined, ...options };
    const transfer = relay(inner, b, { ...limits, reject: false });
    await peer.writeText(origin, 'hello');
    if (abortAfter !== undefined) setTimeout(() => transfer.abort(), abortAfter);
    t.like((await transfer).error, { ...expected, traffic: { tx: 0, rx: 5, total: 5 } });
    t.like(await peer.readToEnd(origin), { end: 'reset' });
    await until('the client sees the end', () => outer.closed, Boolean);
  });
}

test('a half-close timeout ends a relay with a TLS side, on the side that is still open', async (t) => {
  const peer = Peer.start(t);
  const { inner, outer } = await session(t);
  const { b, origin } = await pair(t, peer);
  const transfer = relay(inner, b, { halfCloseTimeout: 300, reject: false });
  outer.end('last');
  t.is(await peer.readText(origin, 4), 'last');
  t.like((await transfer).error, { code: 'ERR_HALF_CLOSE_TIMEOUT', side: 'b', traffic: { tx: 4 } });
  // The origin has already seen the client's end.
  await until('the client sees the end', () => outer.closed, Boolean);
  t.false(outer.readableEnded);
});

coreTest('a number is relayed to a TLS socket in both directions, and its reset is passed on', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer, 'tcp', { untouched: true });
  const { inner, outer } = await session(t);
  const transfer = relay(descriptorOf(a), inner, { reject: false });
  const bytes = randomBytes(MiB);
  outer.write(bytes);
  t.is((await peer.read(client, MiB)).sha256, sha256(bytes));
  await peer.writeText(client, 'answer');
  const [chunk] = (await once(outer, 'data')) as [Buffer];
  t.is(chunk.toString(), 'answer');
  await peer.reset(client);
  t.like((await within(20_000, 'the relay ends', transfer)).error, { code: 'ECONNRESET', side: 'a' });
  await until('the client sees the end', () => outer.closed, Boolean);
  t.false(outer.readableEnded);
});
