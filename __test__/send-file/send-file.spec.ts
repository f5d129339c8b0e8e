// sendFile to sockets: ranges, ways to name a file, rejected files, files that change meanwhile, and the position of the file
// afterwards.
import { ftruncateSync, readFileSync, symlinkSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import test from 'ava';
import { sendFile, TransferError, type SendFileOptions } from 'fdsplice';

import { engine, nativeTest } from '../helpers/engine.js';
import { directory, KiB, MiB, opened, positionOf, sample, sha256 } from '../helpers/copy-files.js';
import { coreTestWithTool } from '../helpers/tools.js';
import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { descriptorOf, openDescriptors } from '../helpers/descriptors.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

for (const transport of ['tcp', 'unix'] as const) {
  test(`${transport}: 10 MiB sent by sendFile arrive intact`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer, transport);
    const { path, bytes } = sample(t, 10 * MiB);
    const reading = peer.readToEnd(origin);
    const result = await sendFile(path, b, { endDestination: true });
    t.like(result, { tx: 10 * MiB, rx: 0, total: 10 * MiB, engine, error: null });
    t.deepEqual(await reading, { bytes: 10 * MiB, sha256: sha256(bytes), end: 'eof' });
  });
}

test('a path, a URL, a FileHandle and a number all name a file, and open files stay open', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 100_000);
  const handle = await open(path);
  const fd = opened(t, path);
  for (const file of [path, pathToFileURL(path), handle, fd]) {
    const [result, read] = await Promise.all([sendFile(file, b), peer.read(origin, bytes.length)]);
    t.is(result.tx, bytes.length);
    t.is(read.sha256, sha256(bytes));
  }
  // Both positions are at the end now, and both still belong to the caller.
  t.is(positionOf(fd), bytes.length);
  t.is((await handle.stat()).size, bytes.length);
  t.is((await sendFile(fd, b)).tx, 0);
  t.is((await sendFile(handle, b, { start: 99_999 })).tx, 1);
  await handle.close();
  b.end();
  t.like(await peer.readToEnd(origin), { bytes: 1, end: 'eof' });
});

const RANGES: [options: SendFileOptions, from: number, to: number][] = [
  [{}, 0, 1000],
  [{ start: 0, end: 0 }, 0, 1],
  [{ start: 10, end: 10 }, 10, 11],
  [{ start: 10, end: 19 }, 10, 20],
  [{ end: 499 }, 0, 500],
  [{ start: 500 }, 500, 1000],
  [{ start: 999 }, 999, 1000],
  [{ start: 900, end: 5000 }, 900, 1000],
  [{ end: Number.MAX_SAFE_INTEGER }, 0, 1000],
  [{ start: 1000 }, 1000, 1000],
  [{ start: 5000 }, 1000, 1000],
  [{ start: 5000, end: 6000 }, 1000, 1000],
];

for (const [options, from, to] of RANGES) {
  test(`a range of ${JSON.stringify(options)} in 1,000 bytes sends bytes ${from} to ${to}`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    const { path, bytes } = sample(t, 1000);
    for (const zeroCopy of [true, false]) {
      t.is((await sendFile(path, b, { ...options, zeroCopy })).tx, to - from);
    }
    b.end();
    const part = bytes.subarray(from, to);
    t.like(await peer.readToEnd(origin), { bytes: 2 * part.length, sha256: sha256(part, part) });
  });
}

test('a number is sent from its position without start, and keeps its position with start', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 1000);
  const fd = opened(t, path, 'r+');
  writeSync(fd, bytes.subarray(0, 100));
  t.is((await sendFile(fd, b, { end: 199 })).tx, 100);
  t.is(positionOf(fd), 200);
  t.is((await sendFile(fd, b, { start: 0, end: 49 })).tx, 50);
  t.is(positionOf(fd), 200);
  t.is((await sendFile(fd, b)).tx, 800);
  t.is(positionOf(fd), 1000);
  b.end();
  t.is(
    (await peer.readToEnd(origin)).sha256,
    sha256(bytes.subarray(100, 200), bytes.subarray(0, 50), bytes.subarray(200)),
  );
});

nativeTest('a number is accepted as the destination', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer, 'tcp', { untouched: true });
  const { path, bytes } = sample(t, 3 * MiB);
  const reading = peer.readToEnd(origin);
  t.is((await sendFile(path, descriptorOf(b), { endDestination: true })).tx, 3 * MiB);
  t.deepEqual(await reading, { bytes: 3 * MiB, sha256: sha256(bytes), end: 'eof' });
});

test('a range that ends before it starts is rejected', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path } = sample(t, 1000);
  const error = await t.throwsAsync(sendFile(path, b, { start: 10, end: 9, reject: false }));
  t.is((error as NodeJS.ErrnoException).code, 'ERR_OUT_OF_RANGE');
  t.true(error instanceof RangeError);
  b.end('still mine');
  t.like(await peer.readToEnd(origin), { bytes: 10, sha256: sha256('still mine') });
});

test('a missing file fails the transfer at the source', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const path = join(directory(t), 'missing');
  t.like(await failure(t, sendFile(path, b)), {
    code: 'ENOENT',
    syscall: 'open',
    side: 'source',
    traffic: { tx: 0, rx: 0, total: 0 },
  });
  const { error } = await sendFile(path, b, { reject: false });
  t.true(error instanceof TransferError);
  b.end('still mine');
  t.like(await peer.readToEnd(origin), { bytes: 10 });
});

test('a path that cannot be resolved fails the transfer at the source', async (t) => {
  const peer = Peer.start(t);
  const { b } = await pair(t, peer);
  const { path } = sample(t, 10);
  const loop = join(directory(t), 'loop');
  symlinkSync(loop, loop);
  t.like(await failure(t, sendFile(join(path, 'below a file'), b)), { code: 'ENOTDIR', side: 'source' });
  t.like(await failure(t, sendFile(loop, b)), { code: 'ELOOP', side: 'source' });
});

const NO_FILES: Record<string, (t: Parameters<typeof directory>[0]) => Promise<string>> = {
  'a directory': (t) => Promise.resolve(directory(t)),
  'a FIFO without a writer': async (t) => {
    const path = join(directory(t), 'fifo');
    t.is((await ended(started(t, 'mkfifo', [path], 'ignore'))).code, 0);
    return path;
  },
  'a character device': () => Promise.resolve('/dev/zero'),
};

for (const [name, make] of Object.entries(NO_FILES)) {
  test(`the path of ${name} is rejected at once`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    const path = await make(t);
    for (const file of [path, pathToFileURL(path)]) {
      const transfer = sendFile(file, b, { reject: false });
      const error = await t.throwsAsync(within(5000, 'a rejection', transfer), { instanceOf: TypeError });
      t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE');
      t.regex(error?.message ?? '', /file/);
    }
    await until(
      'the file is closed',
      () => [...openDescriptors().values()].filter((target) => target === path).length,
      (count) => count === 0,
    );
    b.end('still mine');
    t.like(await peer.readToEnd(origin), { bytes: 10 });
  });
}

const BAD_FILES: [name: string, file: unknown, code: string][] = [
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['an object', {}, 'ERR_INVALID_ARG_TYPE'],
  ['a URL of another scheme', new URL('http://localhost/'), 'ERR_INVALID_ARG_VALUE'],
  ['a URL with a host', new URL('file://host/etc/passwd'), 'ERR_INVALID_FILE_URL_HOST'],
  ['a URL with an encoded slash', new URL('file:///etc%2Fpasswd'), 'ERR_INVALID_FILE_URL_PATH'],
  ['a path with a NUL', 'a\0b', 'ERR_INVALID_ARG_VALUE'],
  ['a negative number', -5, 'ERR_OUT_OF_RANGE'],
  ['a number that is not open', 2 ** 30, 'EBADF'],
];

for (const [name, file, code] of BAD_FILES) {
  test(`${name} as the file is rejected without an exception, and the destination stays the caller's`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    let transfer;
    t.notThrows(() => (transfer = sendFile(file as string, b, { reject: false })), 'not thrown but rejected');
    if (transfer !== undefined) {
      const error = await t.throwsAsync(within(5000, 'a rejection', transfer as Promise<unknown>));
      t.is((error as NodeJS.ErrnoException).code, code);
      t.regex(error?.message ?? '', /"file"/);
    }
    b.end('still mine');
    t.like(await within(5000, 'the destination works', peer.readToEnd(origin)), { bytes: 10 });
  });
}

nativeTest('the number of a socket is rejected as the file', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer, 'tcp', { untouched: true });
  await peer.writeText(client, 'bytes');
  const error = await t.throwsAsync(sendFile(descriptorOf(a), b), { instanceOf: TypeError });
  t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE');
});

test('a file that grows while it is sent is sent up to its size at the start', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 24 * MiB);
  const transfer = sendFile(path, b, { endDestination: true });
  await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
  const writer = opened(t, path, 'a');
  writeSync(writer, Buffer.alloc(MiB));
  t.deepEqual(await peer.readToEnd(origin), { bytes: bytes.length, sha256: sha256(bytes), end: 'eof' });
  t.is((await transfer).tx, bytes.length);
});

for (const zeroCopy of [true, false]) {
  test(`a file that is truncated while it is sent fails the transfer, zeroCopy: ${zeroCopy}`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer);
    const { path, bytes } = sample(t, 24 * MiB);
    const transfer = sendFile(path, b, { zeroCopy });
    await steady('the reader is behind', () => Promise.resolve(transfer.traffic.tx));
    const writer = opened(t, path, 'r+');
    ftruncateSync(writer, 100_000);
    const read = peer.read(origin, transfer.traffic.tx);
    const error = await failure(t, transfer);
    t.like(error, { code: 'ERR_SOURCE_TRUNCATED', side: 'source', errno: undefined, syscall: undefined });
    t.true(error.traffic.tx < bytes.length);
    await read;
    b.end();
    await peer.readToEnd(origin);
    t.is((await peer.counts(origin)).received, error.traffic.tx);
  });
}

test('procfs and sysfs files are sent to their end, whatever size fstat reports', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  for (const path of ['/proc/version', '/proc/cpuinfo', '/sys/devices/system/cpu/online']) {
    const { tx, error } = await sendFile(path, b, { reject: false });
    t.is(error, null, `${path}: ${String(error)}`);
    t.true(tx > 0);
    await peer.read(origin, tx);
  }
  t.is((await sendFile('/proc/version', b, { start: 3, end: 7 })).tx, 5);
});

test('writes to the destination during sendFile follow the file', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 10 * MiB);
  b.write('before, ');
  const transfer = sendFile(path, b, { end: 10 * MiB - 2 });
  b.write(' after');
  b.end();
  t.like(await peer.readToEnd(origin), {
    bytes: 10 * MiB - 1 + 14,
    sha256: sha256('before, ', bytes.subarray(0, -1), ' after'),
    end: 'eof',
  });
  t.is((await transfer).tx, 10 * MiB - 1);
});

test('a second sendFile to a socket in use is rejected', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 64 * KiB);
  const first = sendFile(path, b);
  const error = await t.throwsAsync(sendFile(path, b));
  t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE');
  t.is((await first).tx, bytes.length);
  b.end();
  t.like(await peer.readToEnd(origin), { bytes: bytes.length, sha256: sha256(bytes) });
});

coreTestWithTool('strace', 'pipeSize sets the capacity of the pipe that a file goes through', async (t) => {
  // A file reaches a device only through a pipe.
  const { path } = sample(t, MiB);
  for (const [options, capacities] of [
    [{ pipeSize: 128 * KiB }, [128 * KiB]],
    [{ pipeSize: 128 * KiB, zeroCopy: false }, []],
    [{}, [MiB]],
  ] as [SendFileOptions, number[]][]) {
    const calls = join(directory(t), 'calls');
    const program = `
      import { openSync } from 'node:fs';
      import { sendFile } from 'fdsplice';
      const [path, options] = ${JSON.stringify([path, options])};
      process.stdout.write(String((await sendFile(path, openSync('/dev/null', 'w'), options)).tx));`;
    const traced = ['-f', '-qq', '-e', 'trace=fcntl', '-o', calls, process.execPath];
    const child = started(t, 'strace', [...traced, ...nodeArguments(program)], ['ignore', 'pipe', 'inherit']);
    t.like(await ended(child), { code: 0, stdout: Buffer.from(String(MiB)) });
    const wanted = [...readFileSync(calls, 'utf8').matchAll(/F_SETPIPE_SZ, (\d+)/g)];
    t.deepEqual(
      wanted.map(([, bytes]) => Number(bytes)),
      capacities,
    );
  }
});
