// Copies from and to files and devices: ranges, positions, holes, sizes above 4 GiB, and files that change during the copy.
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  fstatSync,
  ftruncateSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';
import { copy, sendFile } from 'fdsplice';

import { engine, nativeTest } from '../helpers/engine.js';
import {
  directory,
  GiB,
  MiB,
  memoryWithRoom,
  opened,
  positionOf,
  sample,
  sha256,
} from '../helpers/copy-files.js';
import { descriptorOf } from '../helpers/descriptors.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

test('a copy between FileHandles advances both positions and leaves both open', async (t) => {
  const { path, bytes } = sample(t, 3 * MiB);
  const [source, destination] = [await open(path), await open(join(directory(t), 'copy'), 'w+')];
  t.like(await copy(source, destination, { length: MiB + 1 }), {
    tx: MiB + 1,
    engine,
    error: null,
  });
  t.is(positionOf(source.fd), MiB + 1);
  t.is(positionOf(destination.fd), MiB + 1);
  t.is((await copy(source, destination)).tx, 2 * MiB - 1);
  t.is((await copy(source, destination)).tx, 0);
  const { buffer } = await destination.read(Buffer.alloc(4 * MiB), 0, 4 * MiB, 0);
  t.is(sha256(buffer.subarray(0, 3 * MiB)), sha256(bytes));
  t.is((await destination.stat()).size, 3 * MiB);
  await source.close();
  await destination.close();
});

test('a closed FileHandle is rejected', async (t) => {
  const { path } = sample(t, 10);
  const [closed, other] = [await open(path), opened(t, join(directory(t), 'copy'), 'w')];
  await closed.close();
  for (const zeroCopy of [true, false]) {
    const error = await t.throwsAsync(copy(closed, other, { zeroCopy, reject: false }));
    t.is((error as NodeJS.ErrnoException).code, 'EBADF');
  }
});

// Native only: Node cannot duplicate a descriptor.
nativeTest('a FileHandle that is closed while its file is copied does not stop the copy', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 24 * MiB);
  const source = await open(path);
  const transfer = copy(source, b);
  await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
  await source.close();
  t.is((await peer.read(origin, bytes.length)).sha256, sha256(bytes));
  t.is((await transfer).tx, bytes.length);
});

test('start, length and position copy a part of one file into another', async (t) => {
  const { path, bytes } = sample(t, 100_000);
  const [source, destination] = [opened(t, path), opened(t, join(directory(t), 'copy'), 'w+')];
  writeSync(destination, '..........');
  t.is((await copy(source, destination, { start: 1000, length: 3, position: 2 })).tx, 3);
  t.is(positionOf(source), 0);
  t.is(positionOf(destination), 10);
  t.deepEqual(
    readFileSync(`/proc/self/fd/${destination}`),
    Buffer.concat([Buffer.from('..'), bytes.subarray(1000, 1003), Buffer.from('.....')]),
  );
});

test('a file opened with O_APPEND is appended to, and position is rejected for it', async (t) => {
  const path = join(directory(t), 'log');
  const destination = opened(t, path, 'a');
  writeSync(destination, 'before ');
  const { path: from, bytes } = sample(t, 70_000);
  const source = opened(t, from);
  const error = await t.throwsAsync(copy(source, destination, { position: 0 }), { instanceOf: TypeError });
  t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE');
  t.regex(error?.message ?? '', /position/);
  t.is(positionOf(source), 0);
  t.is((await copy(source, destination)).tx, bytes.length);
  t.is(sha256(readFileSync(path)), sha256('before ', bytes));
});

test('a copy from a socket appends to a file opened with O_APPEND', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer);
  const path = join(directory(t), 'log');
  const destination = opened(t, path, 'a');
  writeSync(destination, 'before ');
  const transfer = copy(a, destination, { head: Buffer.from('head ') });
  const sent = await peer.write(client, 5 * MiB, 1);
  await peer.shutdown(client);
  t.is((await transfer).tx, 5 * MiB + 5);
  const all = readFileSync(path);
  t.is(all.subarray(0, 12).toString(), 'before head ');
  t.is(sha256(all.subarray(12)), sent.sha256);
});

nativeTest('a sparse file of more than 4 GiB is copied with its holes', async (t) => {
  const [from, to] = [join(directory(t), 'from'), join(directory(t), 'to')];
  const [source, destination] = [opened(t, from, 'w+'), opened(t, to, 'w+')];
  const size = 5 * GiB + 1;
  ftruncateSync(source, size);
  writeSync(source, 'needle', 4 * GiB + 1234);
  t.like(await copy(source, destination, { start: 0 }), { tx: size, total: size, error: null });
  t.is(statSync(to).size, size);
  t.true(statSync(to).blocks * 512 < 4 * MiB);
  const found = Buffer.alloc(6);
  readSync(destination, found, 0, 6, 4 * GiB + 1234);
  t.is(found.toString(), 'needle');
});

test('a range above 4 GiB is sent', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const path = join(directory(t), 'big');
  const fd = opened(t, path, 'w+');
  ftruncateSync(fd, 6 * GiB);
  writeSync(fd, 'needle', 5 * GiB);
  t.is((await sendFile(path, b, { start: 5 * GiB, end: 5 * GiB + 5 })).tx, 6);
  t.is(await peer.readText(origin, 6), 'needle');
  t.is((await copy(fd, b, { start: 5 * GiB + 1, length: 4 })).tx, 4);
  t.is(await peer.readText(origin, 4), 'eedl');
});

nativeTest(
  'one file on both ends: overlapping ranges fail, disjoint ranges are copied, and appending to itself ends',
  async (t) => {
    const { path, bytes } = sample(t, 100_000);
    const [one, other, end] = [opened(t, path), opened(t, path, 'r+'), opened(t, path, 'a')];
    const error = await failure(t, copy(one, other, { start: 0, position: 50_000, length: 50_001 }));
    t.like(error, { code: 'EINVAL', traffic: { tx: 0, rx: 0, total: 0 } });
    t.deepEqual(readFileSync(path), bytes);
    t.is((await copy(one, other, { start: 0, position: 50_000, length: 50_000 })).tx, 50_000);
    const half = bytes.subarray(0, 50_000);
    t.deepEqual(readFileSync(path), Buffer.concat([half, half]));
    t.is((await within(5000, 'the copy ends', copy(one, end, { start: 0 }))).tx, 100_000);
    t.deepEqual(readFileSync(path), Buffer.concat([half, half, half, half]));
  },
);

nativeTest(
  '/dev/zero is copied up to the length; /dev/null ends at once as a source and accepts everything',
  async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    const [zero, nothing] = [opened(t, '/dev/zero'), opened(t, '/dev/null', 'r+')];
    const [result, read] = await Promise.all([
      copy(zero, b, { length: MiB + 1 }),
      peer.read(origin, MiB + 1),
    ]);
    t.is(result.tx, MiB + 1);
    t.is(read.sha256, sha256(Buffer.alloc(MiB + 1)));
    t.is((await copy(nothing, b)).tx, 0);
    const { path } = sample(t, 5 * MiB);
    t.is((await copy(opened(t, path), nothing)).tx, 5 * MiB);
    t.is((await copy(zero, nothing, { length: 50 * MiB })).tx, 50 * MiB);
  },
);

nativeTest('an abort stops a copy from an endless device', async (t) => {
  const transfer = copy(opened(t, '/dev/zero'), opened(t, '/dev/null', 'w'));
  await until(
    'bytes move',
    () => transfer.traffic.tx,
    (tx) => tx > 100 * MiB,
  );
  transfer.abort();
  const error = await failure(t, transfer);
  t.is(error.code, 'ABORT_ERR');
  t.true(error.traffic.tx > 100 * MiB);
});

test('procfs and sysfs files are copied to their end', async (t) => {
  const to = join(directory(t), 'copy');
  for (const path of ['/proc/version', '/proc/self/maps', '/sys/devices/system/cpu/online']) {
    const source = opened(t, path);
    const { tx } = await copy(source, opened(t, to, 'w'));
    t.true(tx > 0, path);
    t.is(statSync(to).size, tx);
    if (path !== '/proc/self/maps') t.deepEqual(readFileSync(to), readFileSync(path));
    else t.regex(readFileSync(to, 'latin1'), /\[stack\]/);
  }
});

for (const kind of ['number', 'FileHandle'] as const) {
  test(`an abort with a full destination leaves the position of a ${kind} after the delivered bytes`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    const { path, bytes } = sample(t, 24 * MiB);
    const handle = await open(path);
    const source = kind === 'number' ? handle.fd : handle;
    for (const begin of [copy, sendFile]) {
      const from = positionOf(handle.fd);
      const transfer = begin(source, b);
      await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
      transfer.abort('enough');
      const error = await failure(t, transfer);
      t.like(error, { code: 'ABORT_ERR', cause: 'enough', undelivered: undefined });
      t.is(positionOf(handle.fd), from + error.traffic.tx);
      const arrived = await peer.read(origin, error.traffic.tx);
      t.is(arrived.sha256, sha256(bytes.subarray(from, from + error.traffic.tx)));
      // With start, the position does not change.
      const other = begin(source, b, { start: 1 });
      await steady('the reader is behind', () => Promise.resolve(other.traffic.tx));
      other.abort();
      const { traffic } = await failure(t, other);
      t.is(positionOf(handle.fd), from + error.traffic.tx);
      t.is((await peer.read(origin, traffic.tx)).sha256, sha256(bytes.subarray(1, 1 + traffic.tx)));
    }
    // The socket still works.
    b.write('still mine');
    t.is(await peer.readText(origin, 10), 'still mine');
    await handle.close();
  });
}

test('an abort stops the copy of a big file soon, and every copied byte is counted', async (t) => {
  const size = GiB;
  const memory = memoryWithRoom(2.5 * size);
  const where = directory(t, memory);
  t.log(memory === undefined ? 'on disk: no memory for it' : 'in memory');
  const [from, to] = [join(where, 'from'), join(where, 'to')];
  const source = opened(t, from, 'w+');
  const block = Buffer.alloc(32 * MiB, 7);
  for (let at = 0; at < size; at += block.length) writeSync(source, block, 0, block.length, at);
  for (const zeroCopy of [true, false]) {
    const destination = opened(t, to, 'w');
    const position = positionOf(source);
    const transfer = copy(source, destination, { zeroCopy, start: 0 });
    while (transfer.traffic.tx === 0) await new Promise(setImmediate);
    const seen = transfer.traffic.tx;
    transfer.abort();
    const error = await failure(t, transfer);
    const { tx } = error.traffic;
    t.log(`zeroCopy ${zeroCopy}: ${tx - seen} bytes moved between the last sample and the stop`);
    t.is(error.code, 'ABORT_ERR');
    t.true(tx < size);
    t.is(fstatSync(destination).size, tx);
    t.is(positionOf(destination), tx);
    t.is(positionOf(source), position);
  }
});

test('a file overwritten after a transfer with zeroCopy: false does not alter the sent bytes', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  for (const begin of [copy, sendFile]) {
    for (const zeroCopy of [false, true]) {
      const { path, bytes } = sample(t, 128 << 10);
      const fd = opened(t, path, 'r+');
      // All bytes wait in the socket, because the peer does not read yet.
      t.is((await begin(fd, b, { zeroCopy })).tx, bytes.length);
      writeSync(fd, Buffer.alloc(bytes.length, '!'), 0, bytes.length, 0);
      const same = (await peer.read(origin, bytes.length)).sha256 === sha256(bytes);
      if (zeroCopy)
        t.log(`zeroCopy: true, ${begin.name}: ${same ? 'not altered' : 'altered'} on this kernel`);
      else t.true(same, begin.name);
    }
  }
});

test('a file that shrinks during the copy ends the copy early, without an error', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 24 * MiB);
  const fd = opened(t, path, 'r+');
  const transfer = copy(fd, b, { length: bytes.length });
  await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
  ftruncateSync(fd, MiB);
  await peer.read(origin, transfer.traffic.tx);
  const { tx, error } = await transfer;
  t.is(error, null);
  t.true(tx < bytes.length);
  b.end();
  await peer.readToEnd(origin);
  t.is((await peer.counts(origin)).received, tx);
});

nativeTest('a socket given as a number is copied into a file at a position, cut at length', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer, 'tcp', { untouched: true });
  const path = join(directory(t), 'copy');
  const destination = opened(t, path, 'w+');
  const length = 5 * MiB + 3;
  const writing = peer.write(client, 6 * MiB, 1);
  t.is((await copy(descriptorOf(a), destination, { position: 100, length })).tx, length);
  t.is(positionOf(destination), 0);
  const all = readFileSync(path);
  t.is(all.length, 100 + length);
  t.is(sha256(all.subarray(100)), await peer.hash(1, length));
  // The bytes after the cut are still readable.
  const rest = createHash('sha256').update(all.subarray(100));
  const more = opened(t, join(directory(t), 'rest'), 'w+');
  t.is((await copy(a, more, { length: 6 * MiB - length })).tx, 6 * MiB - length);
  rest.update(readFileSync(`/proc/self/fd/${more}`));
  t.is(rest.digest('hex'), (await writing).sha256);
});

for (const zeroCopy of [true, false]) {
  test(`a file that grows during the copy is copied to its new end, zeroCopy: ${zeroCopy}`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    const { path, bytes } = sample(t, 16 * MiB);
    const source = opened(t, path);
    const transfer = copy(source, b, { zeroCopy, endDestination: true });
    await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
    t.true(transfer.traffic.tx < bytes.length);
    const more = randomBytes(MiB + 1);
    appendFileSync(path, more);
    const all = bytes.length + more.length;
    t.deepEqual(await peer.readToEnd(origin), { bytes: all, sha256: sha256(bytes, more), end: 'eof' });
    t.is((await transfer).tx, all);
    t.is(positionOf(source), all);
  });
}
