// Copies whose ends are given as paths or file URLs: which files are opened, created, truncated and closed, and what is
// refused before anything is touched.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  createReadStream,
  existsSync,
  ftruncateSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import tls from 'node:tls';
import { pathToFileURL } from 'node:url';

import test, { type ExecutionContext } from 'ava';
import { copy, RateLimiter, stats, type TransferError } from 'fdsplice';

import { directory, KiB, MiB, opened, positionOf, sample } from '../helpers/copy-files.js';
import { engine, isNative, nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { identity, trust } from '../helpers/tls.js';
import { listening, site } from '../http/site.js';
import { nothingIsLeft } from '../helpers/left.js';

nothingIsLeft(test, 'behind each test');

/** The paths of the open files of this process that are in a folder. */
function openIn(folder: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(folder) ? [path] : [];
    } catch {
      return [];
    }
  });
}

async function mistake(t: ExecutionContext, transfer: Promise<unknown>, code: string, text: RegExp) {
  const error = await t.throwsAsync(transfer);
  t.is((error as NodeJS.ErrnoException).code, code, error?.message);
  t.regex(error?.message ?? '', text);
  t.true(error instanceof TypeError, 'a caller’s mistake');
}

const SIZES = [0, 1, 4 * KiB, 64 * KiB, 64 * KiB + 1, MiB, MiB + 1, 3 * MiB];

for (const size of SIZES) {
  test.serial(`a path is copied to a path: ${size} bytes`, async (t) => {
    const { path, bytes } = sample(t, size);
    const folder = directory(t);
    const to = join(folder, 'copy');
    writeFileSync(to, 'a longer file that was there before'.repeat(200_000));
    const before = stats();
    const result = await copy(path, to);
    t.deepEqual([result.tx, result.total, result.engine, result.error], [size, size, engine, null]);
    t.true(readFileSync(to).equals(bytes));
    t.deepEqual(openIn(folder), []);
    const after = stats();
    t.is(after.tx - before.tx, size);
    t.is(after.completed - before.completed, 1);
  });
}

test.serial('file URLs are copied like paths, with start, length, position and head', async (t) => {
  const { path, bytes } = sample(t, 100 * KiB);
  const [source, to] = [pathToFileURL(path), join(directory(t), 'copy#%41')];
  t.is((await copy(source, pathToFileURL(to), { start: 10, length: 20 })).tx, 20);
  t.true(readFileSync(to).equals(bytes.subarray(10, 30)));
  t.is((await copy(source, pathToFileURL(to), { start: 50, length: 5, position: 2 })).tx, 5);
  const patched = Buffer.from(bytes.subarray(10, 30));
  bytes.copy(patched, 2, 50, 55);
  t.true(readFileSync(to).equals(patched), 'a file with a position is not truncated');
  t.is((await copy(path, to, { head: Buffer.from('head'), start: 100 * KiB - 1 })).tx, 5);
  t.is(readFileSync(to, 'latin1'), `head${bytes.toString('latin1', 100 * KiB - 1)}`);
  t.is((await copy(path, to, { start: 200 * KiB })).tx, 0, 'behind the end');
  t.is(statSync(to).size, 0);
  t.is((await copy(path, join(directory(t), 'new'), { position: 3, length: 1 })).tx, 1);
});

test.serial('a missing destination is created with mode 0666 minus the umask', async (t) => {
  const { path } = sample(t, 10);
  chmodSync(path, 0o700);
  const umask = process.umask();
  for (const size of ['small', 'large']) {
    const to = join(directory(t), 'copy');
    if (size === 'large') ftruncateSync(opened(t, path, 'r+'), 2 * MiB);
    await copy(path, to);
    t.is(statSync(to).mode & 0o777, 0o666 & ~umask);
  }
});

test.serial('a source that cannot be opened leaves the destination as it was', async (t) => {
  const folder = directory(t);
  const { path: kept, bytes } = sample(t, 100);
  const missing = join(folder, 'missing');
  for (const [to, isKept] of [
    [join(folder, 'new'), false],
    [kept, true],
  ] as const) {
    const error = await failure(t, copy(missing, to));
    t.deepEqual([error.code, error.syscall, error.side, error.traffic.tx], ['ENOENT', 'open', 'source', 0]);
    t.is(error.errno, -2);
    if (isKept) t.true(readFileSync(to).equals(bytes));
    else t.false(existsSync(to));
  }
  t.is((await copy('', kept, { reject: false })).error?.code, 'ENOENT');
  t.true(readFileSync(kept).equals(bytes));
});

test.serial('a destination that cannot be opened is a failure with its code and side', async (t) => {
  const { path } = sample(t, 100);
  const folder = directory(t);
  for (const [to, code] of [
    [join(folder, 'none', 'new'), 'ENOENT'],
    [folder, 'EISDIR'],
  ] as const) {
    const { error } = await copy(path, to, { reject: false });
    t.deepEqual([error?.code, error?.syscall, error?.side], [code, 'open', 'destination']);
  }
});

test.serial('a destination that is the source is refused before it is truncated', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const folder = directory(t);
  const [hard, soft] = [join(folder, 'hard'), join(folder, 'soft')];
  linkSync(path, hard);
  symlinkSync(path, soft);
  const handle = await open(path);
  const fd = opened(t, path);
  for (const [source, to] of [
    [path, path],
    [path, hard],
    [hard, soft],
    [handle, path],
    [fd, pathToFileURL(soft)],
  ] as const) {
    await mistake(
      t,
      copy(source, to, { reject: false }),
      'ERR_INVALID_ARG_VALUE',
      /"destination".*same file/,
    );
    t.true(readFileSync(path).equals(bytes));
  }
  await handle.close();
});

test.serial('a file is not copied into itself without end by its path and its number', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const folder = directory(t);
  const copyOf = join(folder, 'copy');
  writeFileSync(copyOf, bytes);
  const appending = opened(t, copyOf, 'a');
  const target = opened(t, path, 'r+');
  const limit = { signal: AbortSignal.timeout(5000) };
  if (isNative) {
    t.is((await copy(copyOf, appending, limit)).tx, 1000);
    t.is(statSync(copyOf).size, 2000);
    t.is((await failure(t, copy(path, target, { start: 10, ...limit }))).code, 'EINVAL');
  } else {
    for (const [from, to] of [
      [copyOf, appending],
      [path, target],
    ] as const) {
      const error = await t.throwsAsync(copy(from, to, { start: 10, head: Buffer.from('head'), ...limit }));
      t.is((error as NodeJS.ErrnoException).code, 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM');
    }
    t.true(readFileSync(copyOf).equals(bytes));
  }
  t.true(readFileSync(path).equals(bytes));
});

nativeTest('ranges of one file are copied within it by its path if they do not overlap', async (t) => {
  const { path, bytes } = sample(t, 1000);
  t.is((await copy(path, path, { length: 10, position: 1000 })).tx, 10);
  t.true(readFileSync(path).equals(Buffer.concat([bytes, bytes.subarray(0, 10)])));
  t.is((await failure(t, copy(path, path, { length: 10, position: 5 }))).code, 'EINVAL');
});

test.serial('what is no regular file is refused as either end, and no FIFO is waited for', async (t) => {
  const folder = directory(t);
  const { path } = sample(t, 10);
  const [fifo, to] = [join(folder, 'fifo'), join(folder, 'copy')];
  execFileSync('mkfifo', [fifo]);
  const server = net.createServer().listen(join(folder, 'socket'));
  await once(server, 'listening');
  for (const other of [fifo, '/dev/null', join(folder, 'socket')]) {
    await mistake(
      t,
      copy(other, to, { reject: false }),
      'ERR_INVALID_ARG_VALUE',
      /"source" must name a regular/,
    );
    await mistake(t, copy(path, other), 'ERR_INVALID_ARG_VALUE', /"destination" must name a regular/);
  }
  await mistake(t, copy(folder, to), 'ERR_INVALID_ARG_VALUE', /"source".*a directory/);
  t.false(existsSync(to));
  const keeper = openSync(fifo, 'r+');
  await mistake(t, copy(path, fifo), 'ERR_INVALID_ARG_VALUE', /"destination".*a FIFO/);
  closeSync(keeper);
  server.close();
});

test.serial('paths and URLs that name no file of this machine are refused', async (t) => {
  const { path } = sample(t, 10);
  const to = join(directory(t), 'copy');
  await mistake(t, copy('a\0b', to), 'ERR_INVALID_ARG_VALUE', /"source".*null/);
  await mistake(t, copy(path, 'a\0b'), 'ERR_INVALID_ARG_VALUE', /"destination".*null/);
  await mistake(t, copy(new URL('http://host/file'), to), 'ERR_INVALID_ARG_VALUE', /"source".*file: URL/);
  await mistake(t, copy(path, new URL('file:///a%2Fb')), 'ERR_INVALID_FILE_URL_PATH', /"destination"/);
  await mistake(t, copy(path, {} as never), 'ERR_INVALID_ARG_TYPE', /"destination".*path/);
  await mistake(t, copy({} as never, to), 'ERR_INVALID_ARG_TYPE', /"source".*path/);
  t.false(existsSync(to));
});

test.serial('a kernel file without a size is copied to its end', async (t) => {
  const to = join(directory(t), 'copy');
  await copy('/proc/version', to);
  t.is(readFileSync(to, 'utf8'), readFileSync('/proc/version', 'utf8'));
});

test.serial('a path is copied to a descriptor, and a descriptor to a path', async (t) => {
  const { path, bytes } = sample(t, 10 * KiB);
  const [to, again] = [join(directory(t), 'copy'), join(directory(t), 'again')];
  const target = opened(t, to, 'w');
  t.is((await copy(path, target)).tx, bytes.length);
  t.is(positionOf(target), bytes.length);
  const source = opened(t, path);
  t.is((await copy(source, again, { length: 1000 })).tx, 1000);
  t.is(positionOf(source), 1000);
  t.true(readFileSync(to).equals(bytes));
  t.true(readFileSync(again).equals(bytes.subarray(0, 1000)));
});

/** A connected socket and its peer. */
async function sockets(t: ExecutionContext): Promise<[net.Socket, net.Socket]> {
  const server = net.createServer({ allowHalfOpen: true });
  const port = await listening(t, server);
  const far = net.connect({ port, allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [net.Socket];
  t.teardown(() => void (near.destroy(), far.destroy()));
  return [near, far];
}

test.serial('a path is copied to a socket before what is written meanwhile', async (t) => {
  const { path, bytes } = sample(t, 300 * KiB);
  const [near, far] = await sockets(t);
  const transfer = copy(path, near);
  near.end('after');
  const received = far.toArray() as Promise<Buffer[]>;
  t.deepEqual([(await transfer).tx, (await transfer).engine], [bytes.length, engine]);
  t.true(Buffer.concat(await received).equals(Buffer.concat([bytes, Buffer.from('after')])));
});

test.serial('a socket is copied to a path that is created, and stays open', async (t) => {
  const [near, far] = await sockets(t);
  const to = join(directory(t), 'copy');
  far.end('all of it');
  const result = await copy(near, to);
  t.deepEqual([result.tx, result.engine], [9, engine]);
  t.is(readFileSync(to, 'utf8'), 'all of it');
  t.false(near.destroyed);
});

test.serial('a socket whose path cannot be opened stays usable, with its bytes', async (t) => {
  const folder = directory(t);
  const [near, far] = await sockets(t);
  far.write('first');
  await once(near, 'readable');
  const error = await failure(t, copy(near, join(folder, 'none', 'new')));
  t.deepEqual([error.code, error.side], ['ENOENT', 'destination']);
  t.is((near.read() as Buffer).toString(), 'first');
  t.is((await failure(t, copy(join(folder, 'none'), near))).side, 'source');
  near.write('answer');
  t.is(((await once(far, 'data'))[0] as Buffer).toString(), 'answer');
});

test.serial('a socket that was already destroyed creates and truncates nothing', async (t) => {
  const [near] = await sockets(t);
  const { path, bytes } = sample(t, 10);
  near.destroy();
  const to = join(directory(t), 'new');
  t.is((await failure(t, copy(near, to))).code, 'ERR_STREAM_DESTROYED');
  t.is((await failure(t, copy(near, path))).code, 'ERR_STREAM_DESTROYED');
  t.false(existsSync(to));
  t.true(readFileSync(path).equals(bytes));
});

test.serial('paths and other streams are copied to each other', async (t) => {
  const { path, bytes } = sample(t, 700 * KiB);
  const folder = directory(t);
  const to = join(folder, 'copy');
  const through = new PassThrough();
  const received = through.toArray() as Promise<Buffer[]>;
  t.is((await copy(path, through, { endDestination: true, start: 1 })).tx, bytes.length - 1);
  t.true(Buffer.concat(await received).equals(bytes.subarray(1)));
  const chunks = [bytes.subarray(0, 10), bytes.subarray(10)];
  const source = Readable.from(chunks, { objectMode: false });
  t.is((await copy(source, to)).tx, bytes.length);
  t.true(readFileSync(to).equals(bytes));
  const lost = Readable.from([Buffer.from('kept')], { objectMode: false });
  t.is((await failure(t, copy(lost, join(folder, 'none', 'x')))).code, 'ENOENT');
  t.is(((await lost.toArray()) as Buffer[]).join(''), 'kept');
  const idle = new PassThrough();
  await mistake(t, copy(idle, '/dev/null', { reject: false }), 'ERR_INVALID_ARG_VALUE', /regular file/);
  t.false(idle.destroyed);
  t.deepEqual(openIn(folder), []);
});

test.serial(
  'a path is copied into a response, and one that cannot be opened leaves the response as it was',
  async (t) => {
    const { path, bytes } = sample(t, 100 * KiB);
    const { port } = await site(t, (request, response) => {
      void (async () => {
        response.setHeader('Content-Length', bytes.length);
        const { error } = await copy(request.url === '/' ? path : `${path}.none`, response, {
          endDestination: true,
          reject: false,
        });
        if (error !== null) {
          t.false(response.headersSent);
          response.removeHeader('Content-Length');
          response.writeHead(404).end(error.code);
        }
      })();
    });
    const whole = await fetch(`http://127.0.0.1:${port}/`);
    t.true(Buffer.from(await whole.arrayBuffer()).equals(bytes));
    const none = await fetch(`http://127.0.0.1:${port}/none`);
    t.deepEqual([none.status, await none.text()], [404, 'ENOENT']);
  },
);

test.serial('nothing is written to a destination before the path of the source is open', async (t) => {
  const folder = directory(t);
  const missing = join(folder, 'missing');
  const target = join(folder, 'target');
  writeFileSync(target, 'kept');
  const head = Buffer.from('head');
  for (const options of [{ head }, { length: 0 }, { head, length: 0, endDestination: true }]) {
    const [near, far] = await sockets(t);
    const through = new PassThrough();
    for (const to of [through, near, opened(t, target, 'r+')]) {
      const error = await failure(t, copy(missing, to, options));
      t.deepEqual([error.code, error.side, error.traffic.tx], ['ENOENT', 'source', 0]);
      await mistake(t, copy(folder, to, options), 'ERR_INVALID_ARG_VALUE', /"source".*a directory/);
    }
    t.deepEqual([through.readableLength, through.writableEnded, through.destroyed], [0, false, false]);
    near.end('after');
    t.is(String(Buffer.concat((await far.toArray()) as Buffer[])), 'after');
  }
  t.is(readFileSync(target, 'latin1'), 'kept');
});

test.serial('a socket is not ended by a copy whose path is refused', async (t) => {
  const folder = directory(t);
  const [near, far] = await sockets(t);
  await mistake(t, copy(folder, near, { endDestination: true }), 'ERR_INVALID_ARG_VALUE', /a directory/);
  t.false(near.writableEnded);
  near.end('after');
  t.is(String(Buffer.concat((await far.toArray()) as Buffer[])), 'after');
});

test.serial('a path is written by a TLS session of either side', async (t) => {
  const folder = directory(t);
  const [request, answer] = [join(folder, 'request'), join(folder, 'answer')];
  const server = tls.createServer({ ...identity, allowHalfOpen: true }, (socket) => {
    void copy(socket, request).then(() => socket.end('answer'));
  });
  const port = await listening(t, server);
  const client = tls.connect({ port, ...trust });
  client.end('request');
  t.is((await copy(client, answer)).tx, 6);
  t.is(readFileSync(request, 'latin1') + readFileSync(answer, 'latin1'), 'requestanswer');
});

test.serial(
  'a path stays as it was when the source does not connect, or no TLS session begins',
  async (t) => {
    const to = join(directory(t), 'kept');
    writeFileSync(to, 'kept');
    const lookup = (_host: string, _options: unknown, found: (error: Error) => void) => {
      setTimeout(() => found(new Error('no such host')), 100);
    };
    const server = net.createServer((socket) => setTimeout(() => socket.destroy(), 100));
    const port = await listening(t, server);
    const unknown = { host: 'none.invalid', port: 1, lookup: lookup as never };
    for (const connect of [() => net.connect(unknown), () => tls.connect(unknown)]) {
      const socket = connect();
      socket.on('error', () => {});
      t.is((await failure(t, copy(socket, to))).side, 'source');
      t.is(readFileSync(to, 'latin1'), 'kept');
    }
    const socket = tls.connect({ port }).on('error', () => {});
    t.is((await failure(t, copy(socket, to))).side, 'source');
    t.is(readFileSync(to, 'latin1'), 'kept');
  },
);

test.serial('a file is not truncated that the source has open as a stream', async (t) => {
  const { path, bytes } = sample(t, 300 * KiB);
  const stream = createReadStream(path);
  t.teardown(() => void stream.destroy());
  await mistake(t, copy(stream, path), 'ERR_INVALID_ARG_VALUE', /"destination".*same file/);
  t.true(readFileSync(path).equals(bytes));
  await t.throwsAsync(
    copy(
      createReadStream(`${path}.none`).on('error', () => {}),
      path,
    ),
  );
  t.true(readFileSync(path).equals(bytes), 'nor before the stream has opened its file');
});

test.serial('limits, progress and zeroCopy apply to copies between paths', async (t) => {
  const { path, bytes } = sample(t, 200 * KiB);
  const to = join(directory(t), 'copy');
  const seen: number[] = [];
  const result = await copy(path, to, {
    rateLimit: new RateLimiter(4 * MiB),
    zeroCopy: false,
    onProgress: ({ tx }) => void seen.push(tx),
  });
  t.deepEqual([result.tx, result.zeroCopy, seen.at(-1)], [bytes.length, 0, bytes.length]);
  t.true(result.durationMs > 10, 'the limiter is consulted');
  t.true(readFileSync(to).equals(bytes));
  const small = await copy(path, to, { onProgress: ({ tx }) => void seen.push(tx) });
  t.is(seen.at(-1), small.tx);
});

test.serial(
  'an aborted copy between paths creates nothing, and an abort after its end changes nothing',
  async (t) => {
    const { path } = sample(t, 100);
    const to = join(directory(t), 'copy');
    const error = await failure(t, copy(path, to, { signal: AbortSignal.abort('early') }));
    t.deepEqual([error.code, error.cause], ['ABORT_ERR', 'early']);
    t.false(existsSync(to));
    const transfer = copy(path, to);
    transfer.abort('late');
    const late = (await transfer.catch((problem: TransferError) => problem)) as {
      code?: string;
      tx?: number;
    };
    if (late.code === undefined) t.is(late.tx, 100);
    else t.is(late.code, 'ABORT_ERR');
  },
);

nativeTest('a sparse file stays sparse when it is copied by its path', async (t) => {
  const path = join(directory(t), 'sparse');
  const fd = opened(t, path, 'w');
  ftruncateSync(fd, MiB);
  const to = join(directory(t), 'copy');
  t.is((await copy(path, to)).tx, MiB);
  t.is(statSync(to).size, MiB);
  t.true(statSync(to).blocks <= statSync(path).blocks + 8);
});

test.serial('a thousand copies between paths leave no descriptor behind', async (t) => {
  const { path } = sample(t, 100);
  const folder = directory(t);
  await Promise.all(Array.from({ length: 1000 }, (_, index) => copy(path, join(folder, `${index % 50}`))));
  t.deepEqual(openIn(folder), []);
  t.is(readFileSync(join(folder, '7')).length, 100);
  if (isNative) t.is(stats().active, 0);
});
