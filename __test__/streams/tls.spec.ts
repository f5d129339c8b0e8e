// Relays and copies with a TLS socket as one end.
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
  test(`TLS in front, plain behind: bytes both ways, and the ${first} ends first`, async (t) => {
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
      // The other direction goes on.
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

test('what goes into a TLS session is never on the wire in plain', async (t) => {
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
  // By path, by number, from a socket: no way of asking gets a descriptor under the session.
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

test('a plain side that is reset resets the TLS side: no end that looks clean', async (t) => {
  const peer = Peer.start(t);
  const { inner, outer } = await session(t);
  const { b, origin } = await pair(t, peer);
  const transfer = relay(inner, b, { reject: false });
  await peer.writeText(origin, 'part');
  const seen: string[] = [];
  outer.on('end', () => seen.push('end')).on('error', (error: Error) => seen.push(error.message));
  outer.on('data', (chunk: Buffer) => seen.push(chunk.toString()));
  await until('it arrives', () => seen.length, Boolean);
  await peer.reset(origin);
  t.like((await transfer).error, { code: 'ECONNRESET', side: 'b', traffic: { rx: 4 } });
  await until('the client knows', () => outer.closed, Boolean);
  t.deepEqual([seen[0], seen.length], ['part', 2], String(seen));
  t.regex(String(seen[1]), /ECONNRESET/);
});

test('a TLS side that is destroyed resets the plain side, and the other way round', async (t) => {
  const peer = Peer.start(t);
  for (const side of ['a', 'b'] as const) {
    const { inner, outer } = await session(t);
    const { b, origin } = await pair(t, peer);
    const transfer = relay(inner, b, { reject: false });
    const cause = new Error('enough');
    (side === 'a' ? inner : b).destroy(cause);
    t.like((await transfer).error, { name: 'AbortError', code: 'ABORT_ERR', side, cause });
    t.like(await peer.readToEnd(origin), { end: 'reset' });
    await until('the client knows', () => outer.closed, Boolean);
    t.false(outer.readableEnded);
  }
});

for (const [what, options, expected] of [
  ['an idle timeout', { idleTimeout: 300 }, { code: 'ERR_IDLE_TIMEOUT', side: undefined }],
  ['an abort', { abortAfter: 300 }, { code: 'ABORT_ERR', side: undefined }],
] as const) {
  test(`${what} ends a relay of streams, and resets both`, async (t) => {
    const peer = Peer.start(t);
    const { inner, outer } = await session(t);
    const { b, origin } = await pair(t, peer);
    const { abortAfter, ...limits } = { abortAfter: undefined, ...options };
    const transfer = relay(inner, b, { ...limits, reject: false });
    await peer.writeText(origin, 'hello');
    if (abortAfter !== undefined) setTimeout(() => transfer.abort(), abortAfter);
    t.like((await transfer).error, { ...expected, traffic: { tx: 0, rx: 5, total: 5 } });
    t.like(await peer.readToEnd(origin), { end: 'reset' });
    await until('the client knows', () => outer.closed, Boolean);
  });
}

test('a half-close timeout ends a relay of streams, on the side that is still open', async (t) => {
  const peer = Peer.start(t);
  const { inner, outer } = await session(t);
  const { b, origin } = await pair(t, peer);
  const transfer = relay(inner, b, { halfCloseTimeout: 300, reject: false });
  outer.end('last');
  t.is(await peer.readText(origin, 4), 'last');
  t.like((await transfer).error, { code: 'ERR_HALF_CLOSE_TIMEOUT', side: 'b', traffic: { tx: 4 } });
  // The origin has seen the client's end before.
  await until('the client knows', () => outer.closed, Boolean);
  t.false(outer.readableEnded);
});

coreTest('a number that has no stream is bridged: both ways, and with its failures', async (t) => {
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
  await until('the client knows', () => outer.closed, Boolean);
  t.false(outer.readableEnded);
});
