// Transfers with ends that have no descriptor of their own: TLS, HTTP/2, compressors, any stream.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createGunzip, gzipSync } from 'node:zlib';

import test, { type ExecutionContext } from 'ava';
import { copy, RateLimiter, relay, sendFile, stats, type TrafficResult } from 'fdsplice';

import { opened, sample } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const MiB = 1 << 20;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

async function listening(t: ExecutionContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

interface Session {
  /** The gateway's end. */
  inner: tls.TLSSocket;
  /** The client's. */
  outer: tls.TLSSocket;
}

/** Both ends of a TLS session; neither ends by itself when the other does. */
async function session(t: ExecutionContext): Promise<Session> {
  const server = tls.createServer({ ...identity, allowHalfOpen: true });
  const port = await listening(t, server);
  const outer = tls.connect({
    port,
    host: '127.0.0.1',
    allowHalfOpen: true,
    ...trust,
  } as tls.ConnectionOptions);
  const [[inner]] = (await Promise.all([once(server, 'secureConnection'), once(outer, 'secureConnect')])) as [
    [tls.TLSSocket],
    unknown,
  ];
  for (const socket of [inner, outer]) {
    t.teardown(() => socket.destroy());
    socket.on('error', () => {});
  }
  return { inner, outer };
}

/** All of a stream, which lives on: its other direction may still be open. */
async function all(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await within(30_000, 'a stream ends', once(stream, 'end'));
  return Buffer.concat(chunks);
}

/** A writable stream that keeps what it is given, one chunk a turn of the event loop. */
function sink(options: { highWaterMark?: number } = {}) {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    ...options,
    write(chunk: Buffer, _encoding, callback) {
      chunks.push(Buffer.from(chunk));
      setImmediate(callback);
    },
  });
  return { stream, bytes: () => Buffer.concat(chunks) };
}

/** One of two streams, each of which reads what is written to the other. */
class Half extends Duplex {
  other: Half = this;
  #taken = () => {};

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {
    this.#taken();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.other.#taken = callback;
    this.other.push(chunk);
  }

  override _final(callback: () => void): void {
    this.other.push(null);
    callback();
  }
}

function duplexPair(): [Duplex, Duplex] {
  const [one, other] = [new Half(), new Half()];
  [one.other, other.other] = [other, one];
  return [one, other];
}

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

test('an HTTP/2 stream is relayed, and a failure is a reset of it alone', async (t) => {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const server = http2.createSecureServer(identity);
  const results: TrafficResult[] = [];
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200 });
    void relay(stream, net.connect(port, '127.0.0.1'), { reject: false }).then((result) =>
      results.push(result),
    );
  });
  const client = http2.connect(`https://localhost:${await listening(t, server)}`, trust);
  t.teardown(() => client.destroy());
  const open = async () => {
    const stream = client.request({ ':method': 'POST' });
    const { conn } = await peer.accept(listener);
    return { stream, conn };
  };
  const good = await open();
  const received = all(good.stream);
  const bytes = randomBytes(MiB);
  good.stream.end(bytes);
  t.is((await peer.readToEnd(good.conn)).sha256, sha256(bytes));
  await peer.writeText(good.conn, 'answer');
  await peer.shutdown(good.conn);
  t.is((await received).toString(), 'answer');
  const bad = await open();
  const closed = once(bad.stream, 'close');
  bad.stream.on('error', () => {});
  await peer.reset(bad.conn);
  await within(20_000, 'the stream is reset', closed);
  t.not(bad.stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
  t.false(client.destroyed);
  await until(
    'both are told',
    () => results.length,
    (count) => count === 2,
  );
  t.like(results[0], { tx: MiB, rx: 6, engine: 'stream', error: null });
  t.like(results[1]?.error, { code: 'ECONNRESET', side: 'b' });
});

test('any two duplex streams are relayed; a failure destroys both with it', async (t) => {
  const [client, a] = duplexPair();
  const [b, origin] = duplexPair();
  const transfer = relay(a, b);
  const bytes = randomBytes(MiB);
  const [there, back] = [all(origin), all(client)];
  client.end(bytes);
  origin.end('answer');
  t.is(sha256(await there), sha256(bytes));
  t.is((await back).toString(), 'answer');
  t.like(await transfer, { tx: MiB, rx: 6, engine: 'stream' });

  const [, c] = duplexPair();
  const [d] = duplexPair();
  let errors = 0;
  for (const stream of [c, d]) stream.on('error', () => (errors += 1));
  const failing = relay(c, d);
  failing.abort('enough');
  t.like(await failure(t, failing), { code: 'ABORT_ERR', cause: 'enough' });
  t.true(c.destroyed && d.destroyed);
  t.like(c.errored, { code: 'ABORT_ERR' });
  t.is(errors, 0, 'failures are in the result alone');
});

test('writing to a stream that is relayed fails the relay', async (t) => {
  const { inner } = await session(t);
  const [, b] = duplexPair();
  const transfer = relay(inner, b);
  const callback = new Promise<unknown>((resolve) => inner.write('intruder', resolve));
  t.like(await failure(t, transfer), { code: 'ERR_INVALID_STATE', side: 'a' });
  t.like(await callback, { code: 'ERR_INVALID_STATE' });
});

test('heads come first, and count', async (t) => {
  const [client, a] = duplexPair();
  const [b, origin] = duplexPair();
  const transfer = relay(a, b, { headFromA: Buffer.from('first '), headFromB: Buffer.from('early ') });
  const [there, back] = [all(origin), all(client)];
  client.end('second');
  origin.end('late');
  t.is((await there).toString(), 'first second');
  t.is((await back).toString(), 'early late');
  t.like(await transfer, { tx: 12, rx: 10 });
});

test('a copy leaves both streams as they were, with nothing taken beyond its length', async (t) => {
  const source = new PassThrough();
  const { stream: destination, bytes } = sink();
  const listeners = () =>
    [source, destination].map((stream) =>
      stream.eventNames().map((name) => [name, stream.listenerCount(name)]),
    );
  const before = listeners();
  let data = 0;
  source.write('hello world');
  const transfer = copy(source, destination, { length: 5, head: Buffer.from('> ') });
  source.on('data', (chunk: Buffer) => (data += chunk.length));
  destination.write(' (later)');
  t.like(await transfer, { tx: 7, rx: 0, engine: 'stream' });
  t.is(data, 0);
  // Behind the copy, what follows is the listener's.
  await until(
    'the rest arrives',
    () => data,
    (bytes) => bytes === 6,
  );
  source.removeAllListeners('data').pause();
  await sleep(10);
  t.is(bytes().toString(), '> hello (later)');
  t.deepEqual(listeners(), before);
  source.end('!');
  source.resume();
  t.is((await all(source)).toString(), '!');
  destination.end('?');
  await once(destination, 'finish');
  t.is(bytes().toString(), '> hello (later)?');
});

for (const chunk of [3, 100]) {
  test(`no more than its length is taken from a source that answers at once, ${chunk} bytes a time`, async (t) => {
    let next = 0;
    const source = new Readable({
      read() {
        this.push(next < 300 ? Buffer.from(Array.from({ length: chunk }, () => next++ % 256)) : null);
      },
    });
    const { stream: destination, bytes } = sink();
    const transfer = copy(source, destination, { length: 10 });
    t.teardown(() => transfer.abort());
    t.like(await within(20_000, 'it ends', transfer), { tx: 10 });
    t.deepEqual([...bytes()], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const rest = await all(source);
    t.is(rest.length, next - 10);
    t.is(rest[0], 10);
  });
}

test('bytes that a destination did not take go back to the stream they came from', async (t) => {
  const source = new PassThrough();
  const stuck = new Writable({ highWaterMark: 1, write: () => {} });
  source.write('hello world');
  const transfer = copy(source, stuck);
  await until('it is stuck', () => stuck.writableLength, Boolean);
  stuck.destroy();
  t.like(await failure(t, transfer), { code: 'ABORT_ERR', side: 'destination', traffic: { tx: 0 } });
  t.is(String(source.read()), 'hello world');
});

test('a copy that has nothing to write ends although the destination takes nothing', async (t) => {
  const stuck = new Writable({ highWaterMark: 1, write: () => {} });
  stuck.write('waits');
  t.true(stuck.writableNeedDrain);
  t.like(await within(20_000, 'it ends', copy(new PassThrough(), stuck, { length: 0 })), { tx: 0 });
});

test('the position of a file stands behind what a stream took', async (t) => {
  if (!isNative) {
    t.pass('Without the core nobody can move a position back: the bytes are in the error.');
    return;
  }
  const { path, bytes } = sample(t, 3 * MiB);
  const fd = opened(t, path);
  let taken = 0;
  const stream = new Writable({
    highWaterMark: 1,
    // The first chunk is taken, the next one never.
    write(chunk: Buffer, _encoding, callback) {
      if (taken === 0) setImmediate(callback);
      taken += chunk.length;
    },
  });
  const transfer = copy(fd, stream);
  await until('some is taken', () => transfer.traffic.tx, Boolean);
  stream.destroy();
  const { traffic } = await failure(t, transfer);
  const rest = await copy(fd, sink().stream);
  t.is(traffic.tx + rest.tx, bytes.length);
});

test('request bodies, decompressors and files', async (t) => {
  const { bytes, path } = sample(t, 2 * MiB);
  const into = opened(t, `${path}.out`, 'w+');
  const done = deferred<TrafficResult>();
  const server = http.createServer((request, response) => {
    void copy(request, into).then((result) => {
      response.end('thanks');
      done.resolve(result);
    });
  });
  const request = http.request({ port: await listening(t, server), host: '127.0.0.1', method: 'PUT' });
  const answered = once(request, 'response');
  await sendFile(path, request, { endDestination: true });
  await answered;
  t.like(await done.promise, { tx: 2 * MiB, engine: 'stream' });
  t.true(readFileSync(`${path}.out`).equals(bytes));

  const gunzip = createGunzip();
  gunzip.end(gzipSync(bytes));
  const { stream, bytes: unpacked } = sink();
  t.like(await copy(gunzip, stream, { endDestination: true }), { tx: 2 * MiB, engine: 'stream' });
  t.true(unpacked().equals(bytes));
  t.true(stream.writableFinished);
});

test('a file that a stream is copied into, and one that is copied, keep their descriptors when memory is collected', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const { path, bytes } = sample(t, 300_000);
  const [from, into] = [opened(t, path), opened(t, `${path}.out`, 'w+')];
  const [source, destination] = [new PassThrough(), sink({ highWaterMark: 1 })];
  const writing = copy(source, into);
  const reading = copy(from, destination.stream, { rateLimit: 3 * MiB });
  for (let at = 0; at < bytes.length; at += 30_000) {
    source.write(bytes.subarray(at, at + 30_000));
    collect();
    await sleep(5);
  }
  source.end();
  t.like(await writing, { tx: bytes.length, error: null });
  t.like(await reading, { tx: bytes.length, error: null });
  t.true(readFileSync(`${path}.out`).equals(bytes));
  t.true(destination.bytes().equals(bytes));
});

test('a stream that fails is a failure of its side, with its error as the cause', async (t) => {
  const gunzip = createGunzip();
  gunzip.end('this is not gzip');
  t.like(await failure(t, copy(gunzip, sink().stream)), { code: 'Z_DATA_ERROR', side: 'source' });
  const cause = new Error('no more');
  const failing = new Writable({ write: (_chunk, _encoding, callback) => callback(cause) });
  failing.on('error', () => {});
  const error = await failure(t, copy(Readable.from([Buffer.from('x')], { objectMode: false }), failing));
  t.like(error, { code: 'ABORT_ERR', side: 'destination', cause });
});

test('a stream that was ended before takes nothing, and the source keeps what it has', async (t) => {
  const ended = new Writable({ autoDestroy: false, write: (_chunk, _encoding, callback) => callback() });
  ended.end();
  const source = Readable.from([Buffer.from('kept')], { objectMode: false });
  const expected = { code: 'ERR_STREAM_WRITE_AFTER_END', side: 'destination', traffic: { total: 0 } };
  t.like(await failure(t, copy(source, ended)), expected);
  t.like(await failure(t, sendFile(sample(t, 10).path, ended)), expected);
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk as Buffer);
  t.is(String(Buffer.concat(chunks)), 'kept');
});

test('what a wrapped write throws is a failure, and nothing of it is counted', async (t) => {
  const cause = new Error('not today');
  const destination = new Writable({ write: (_chunk, _encoding, callback) => callback() });
  destination.write = () => {
    throw cause;
  };
  const source = Readable.from([Buffer.from('kept')], { objectMode: false });
  const error = await failure(t, copy(source, destination));
  t.like(error, { code: 'ABORT_ERR', side: 'destination', cause, traffic: { total: 0 } });
  t.regex(error.message, /not today/);
});

test('streams of objects, decoded ones and web streams are refused', async (t) => {
  const objects = Readable.from([{}]);
  await t.throwsAsync(copy(objects, sink().stream), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /"source".*objects/,
  });
  const decoded = new PassThrough().setEncoding('utf8');
  await t.throwsAsync(copy(decoded, sink().stream), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /setEncoding/,
  });
  const web = Readable.toWeb(new PassThrough());
  await t.throwsAsync(copy(web as never, sink().stream), {
    code: 'ERR_INVALID_ARG_TYPE',
    message: /Readable\.fromWeb/,
  });
  const both = new PassThrough();
  await t.throwsAsync(copy(both, both), { code: 'ERR_INVALID_ARG_VALUE' });
  await t.throwsAsync(relay(both, new Writable() as never), { code: 'ERR_INVALID_ARG_TYPE' });
  t.false(both.destroyed);
});

// At the higher rate a transfer may move more at a time than a stream has; a file always has enough.
for (const rate of [4 * MiB, 24 * MiB]) {
  const title = `${rate / MiB} MiB/s are kept and shared evenly by streams, and by both engines at once`;
  test(title, async (t) => {
    const limiter = new RateLimiter(rate);
    const endless = (chunk: number) =>
      new Readable({
        read() {
          this.push(Buffer.alloc(chunk));
        },
      });
    const nothing = () => new Writable({ write: (_chunk, _encoding, callback) => callback() });
    const file = opened(t, sample(t, 3 * rate).path);
    const options = { rateLimit: limiter, reject: false };
    const transfers = [
      copy(endless(65_536), nothing(), options),
      copy(endless(16_384), nothing(), options),
      copy(file, isNative ? opened(t, '/dev/null', 'w') : nothing(), { ...options, start: 0 }),
    ];
    t.teardown(() => {
      for (const transfer of transfers) transfer.abort();
    });
    const look = () => ({ at: performance.now(), tx: transfers.map(({ traffic }) => traffic.tx) });
    await sleep(300);
    // A noisy machine gets three tries at it.
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const before = look();
      await sleep(2500);
      const after = look();
      const seconds = (after.at - before.at) / 1000;
      const shares = after.tx.map((tx, index) => tx - (before.tx[index] ?? 0));
      const sum = shares.reduce((total, share) => total + share);
      const fair = shares.map((share) => (share * shares.length) / sum);
      const kept = sum / seconds / rate;
      const told = `${kept.toFixed(3)} of the limit, shares ${fair.map((share) => share.toFixed(2)).join(' ')}`;
      t.log(told);
      if (Math.abs(kept - 1) < 0.05 && fair.every((share) => Math.abs(share - 1) < 0.1)) break;
      if (attempt === 2) t.fail(told);
    }
    for (const transfer of transfers) transfer.abort();
    for (const { error } of await Promise.all(transfers)) t.is(error?.code, 'ABORT_ERR');
  });
}

test('a number that has no stream is bridged: both ways, and with its failures', async (t) => {
  if (!isNative) {
    t.pass('Without the core there is no bridge.');
    return;
  }
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer, 'tcp', { untouched: true });
  const fd = (a as net.Socket & { _handle: { fd: number } })._handle.fd;
  const { inner, outer } = await session(t);
  const transfer = relay(fd, inner, { reject: false });
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

test('transfers on streams are in the counts of the process', async (t) => {
  const before = stats();
  const source = new PassThrough();
  const transfer = copy(source, sink().stream);
  source.write('hello');
  await until(
    'it arrives',
    () => transfer.traffic.tx,
    (tx) => tx === 5,
  );
  t.true(stats().active >= 1);
  source.end();
  await transfer;
  t.true(stats().tx >= before.tx + 5);
  t.true(stats().completed > before.completed);
});
