// Copies from and to streams without a descriptor: compressors, request bodies, any readable and writable. They show that
// such copies count, fail and give bytes back as native ones do.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { PassThrough, Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createGunzip, gzipSync } from 'node:zlib';

import test from 'ava';
import { copy, relay, sendFile, stats, type TrafficResult } from 'fdsplice';

import { MiB, opened, sample } from '../helpers/copy-files.js';
import { coreTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { deferred, until, within } from '../helpers/wait.js';
import { all, listening, sink } from './ends.js';

nothingIsLeft(test, 'behind all tests');

test('a copy leaves both streams unchanged and takes no byte beyond its length', async (t) => {
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
  // Bytes after the copy go to the listener.
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
  test(`a copy takes no byte beyond its length from a synchronous source of ${chunk}-byte chunks`, async (t) => {
    let next = 0;
    const source = new Readable({
      read() {
        this.push(next < 300 ? Buffer.from(Array.from({ length: chunk }, () => next++ % 256)) : null);
      },
    });
    const { stream: destination, bytes } = sink();
    const transfer = copy(source, destination, { length: 10 });
    t.teardown(() => transfer.abort());
    t.like(await within(20_000, 'the copy ends', transfer), { tx: 10 });
    t.deepEqual([...bytes()], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const rest = await all(source);
    t.is(rest.length, next - 10);
    t.is(rest[0], 10);
  });
}

test('bytes that the destination did not accept go back to the source', async (t) => {
  const source = new PassThrough();
  const blocked = new Writable({ highWaterMark: 1, write: () => {} });
  source.write('hello world');
  const transfer = copy(source, blocked);
  await until('the destination is blocked', () => blocked.writableLength, Boolean);
  blocked.destroy();
  t.like(await failure(t, transfer), { code: 'ABORT_ERR', side: 'destination', traffic: { tx: 0 } });
  t.is(String(source.read()), 'hello world');
});

test('a copy of no bytes ends although the destination accepts nothing', async (t) => {
  const blocked = new Writable({ highWaterMark: 1, write: () => {} });
  blocked.write('waits');
  t.true(blocked.writableNeedDrain);
  t.like(await within(20_000, 'the copy ends', copy(new PassThrough(), blocked, { length: 0 })), { tx: 0 });
});

// Native only: without the core no position can be set back, and the bytes are in the error instead.
coreTest('the position of a file is after the bytes that a stream accepted', async (t) => {
  const { path, bytes } = sample(t, 3 * MiB);
  const fd = opened(t, path);
  let taken = 0;
  const stream = new Writable({
    highWaterMark: 1,
    // Accepts the first chunk and never the next.
    write(chunk: Buffer, _encoding, callback) {
      if (taken === 0) setImmediate(callback);
      taken += chunk.length;
    },
  });
  const transfer = copy(fd, stream);
  await until('some bytes are accepted', () => transfer.traffic.tx, Boolean);
  stream.destroy();
  const { traffic } = await failure(t, transfer);
  const rest = await copy(fd, sink().stream);
  t.is(traffic.tx + rest.tx, bytes.length);
});

test('request bodies, decompressors and files are copied', async (t) => {
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

test('garbage collection does not close the files of running copies from and to streams', async (t) => {
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

test('an error of a stream fails the copy on its side, with that error as the cause', async (t) => {
  const gunzip = createGunzip();
  gunzip.end('this is not gzip');
  t.like(await failure(t, copy(gunzip, sink().stream)), { code: 'Z_DATA_ERROR', side: 'source' });
  const cause = new Error('no more');
  const failing = new Writable({ write: (_chunk, _encoding, callback) => callback(cause) });
  failing.on('error', () => {});
  const error = await failure(t, copy(Readable.from([Buffer.from('x')], { objectMode: false }), failing));
  t.like(error, { code: 'ABORT_ERR', side: 'destination', cause });
});

test('an ended stream accepts nothing, and the source keeps its bytes', async (t) => {
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

test('an exception from a replaced write fails the copy, and its bytes are not counted', async (t) => {
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

test('object streams, decoded streams and web streams are rejected', async (t) => {
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

test('stats() includes transfers on streams', async (t) => {
  const before = stats();
  const source = new PassThrough();
  const transfer = copy(source, sink().stream);
  source.write('hello');
  await until(
    'the bytes arrive',
    () => transfer.traffic.tx,
    (tx) => tx === 5,
  );
  t.true(stats().active >= 1);
  source.end();
  await transfer;
  t.true(stats().tx >= before.tx + 5);
  t.true(stats().completed > before.completed);
});
