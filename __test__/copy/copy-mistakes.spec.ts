// Ends and options of copy that are rejected before a byte moves: the error names the argument, and every end stays the
// caller's and unchanged.
import { constants, openSync, closeSync, readFileSync, readlinkSync, readdirSync, writeSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, stats, type Source } from 'fdsplice';

import { nativeTest } from '../helpers/engine.js';
import { ended, started } from '../helpers/copy-child.js';
import { directory, opened, positionOf, sample } from '../helpers/copy-files.js';
import { descriptorOf, opened as openedBy } from '../helpers/descriptors.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';

async function mistake(
  t: ExecutionContext,
  transfer: Promise<unknown>,
  code: string,
  text: RegExp,
): Promise<void> {
  const error = await t.throwsAsync(transfer);
  t.is((error as NodeJS.ErrnoException).code, code, error?.message);
  t.regex(error?.message ?? '', text);
  if (code !== 'EBADF') t.true(error instanceof TypeError || error instanceof RangeError);
}

/** Linux's O_PATH, for which Node has no constant. */
const O_PATH = 0o10000000;

nativeTest('a directory and descriptors that carry no bytes are rejected as either end', async (t) => {
  const { path } = sample(t, 1000);
  const good = opened(t, path, 'r+');
  const epoll = readdirSync('/proc/self/fd').find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventpoll]';
    } catch {
      return false;
    }
  });
  const events = readdirSync('/proc/self/fd').find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
    } catch {
      return false;
    }
  });
  t.truthy(epoll);
  t.truthy(events);
  const bad: Record<string, number> = {
    'a directory': opened(t, directory(t)),
    'O_PATH of a file': opened(t, path, O_PATH),
    'O_PATH of a directory': opened(t, directory(t), O_PATH | constants.O_DIRECTORY),
    epoll: Number(epoll),
    eventfd: Number(events),
  };
  for (const [name, fd] of Object.entries(bad)) {
    await mistake(t, copy(fd, good, { reject: false }), 'ERR_INVALID_ARG_VALUE', /source/);
    await mistake(t, copy(good, fd, { reject: false }), 'ERR_INVALID_ARG_VALUE', /destination/);
    await mistake(t, sendFile(fd, good), 'ERR_INVALID_ARG_VALUE', /file|source/);
    t.is(positionOf(good), 0, name);
  }
});

nativeTest('datagram and listening sockets are rejected as either end', async (t) => {
  const { path } = sample(t, 1000);
  const good = opened(t, path, 'r+');
  const udp = createSocket('udp4');
  const datagram = await openedBy(async () => {
    udp.bind(0, '127.0.0.1');
    await once(udp, 'listening');
  });
  t.teardown(() => udp.close());
  const server = createServer();
  const listening = await openedBy(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  t.teardown(() => void server.close());
  for (const fd of [datagram, listening]) {
    await mistake(t, copy(fd, good), 'ERR_INVALID_ARG_VALUE', /source/);
    await mistake(t, copy(good, fd), 'ERR_INVALID_ARG_VALUE', /destination/);
  }
});

nativeTest('a write-only source and a read-only destination are rejected, and nothing moves', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const [reads, writes] = [opened(t, path, 'r'), opened(t, path, constants.O_WRONLY)];
  const both = opened(t, join(directory(t), 'copy'), 'w+');
  await mistake(t, copy(writes, both), 'ERR_INVALID_ARG_VALUE', /source.*writing/);
  await mistake(t, copy(both, reads), 'ERR_INVALID_ARG_VALUE', /destination.*reading/);
  t.deepEqual([reads, writes, both].map(positionOf), [0, 0, 0]);
  t.deepEqual(readFileSync(path), bytes);
});

nativeTest('the same pipe on both ends is rejected and keeps its bytes', async (t) => {
  const path = join(directory(t), 'fifo');
  t.is((await ended(started(t, 'mkfifo', [path], 'ignore'))).code, 0);
  const keeper = openSync(path, constants.O_RDWR);
  const [reads, writes] = [opened(t, path, 'r'), opened(t, path, 'w')];
  writeSync(writes, 'bytes');
  await mistake(t, copy(reads, writes), 'ERR_INVALID_ARG_VALUE', /same/);
  await mistake(t, copy(keeper, keeper, { length: 5 }), 'ERR_INVALID_ARG_VALUE', /same/);
  const copied = opened(t, join(directory(t), 'copy'), 'w+');
  t.is((await copy(reads, copied, { length: 5 })).tx, 5);
  closeSync(keeper);
});

nativeTest('the same socket on both ends is rejected', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer, 'tcp', { untouched: true });
  await peer.writeText(client, 'bytes');
  for (const [source, destination] of [
    [a, a],
    [a, descriptorOf(a)],
    [descriptorOf(a), a],
    [descriptorOf(a), descriptorOf(a)],
  ] as const) {
    await mistake(t, copy(source, destination), 'ERR_INVALID_ARG_VALUE', /same/);
  }
  a.resume();
  const [data] = (await once(a, 'data')) as [Buffer];
  t.is(data.toString(), 'bytes');
});

const BAD_OPTIONS: [options: object, code: string, text: RegExp][] = [
  [{ length: -1 }, 'ERR_OUT_OF_RANGE', /length/],
  [{ length: 1.5 }, 'ERR_OUT_OF_RANGE', /length/],
  [{ length: NaN }, 'ERR_OUT_OF_RANGE', /length/],
  [{ length: '5' }, 'ERR_INVALID_ARG_TYPE', /length/],
  [{ length: 5n }, 'ERR_INVALID_ARG_TYPE', /length/],
  [{ start: -1 }, 'ERR_OUT_OF_RANGE', /start/],
  [{ start: 0.5 }, 'ERR_OUT_OF_RANGE', /start/],
  [{ start: 2 ** 53 }, 'ERR_OUT_OF_RANGE', /start/],
  [{ position: -1 }, 'ERR_OUT_OF_RANGE', /position/],
  [{ position: null }, 'ERR_INVALID_ARG_TYPE', /position/],
  [{ head: 'text' }, 'ERR_INVALID_ARG_TYPE', /head/],
  [{ endDestination: 1 }, 'ERR_INVALID_ARG_TYPE', /endDestination/],
  [{ zeroCopy: 'no' }, 'ERR_INVALID_ARG_TYPE', /zeroCopy/],
  [{ end: 5 }, 'ERR_INVALID_ARG_VALUE', /end/],
];

for (const [options, code, text] of BAD_OPTIONS) {
  const shown = Object.entries(options).map(([name, value]) => `${name}: ${typeof value} ${String(value)}`);
  test(`copy with { ${shown.join()} } is rejected, and nothing moves`, async (t) => {
    const [source, destination] = [
      opened(t, sample(t, 1000).path),
      opened(t, join(directory(t), 'copy'), 'w'),
    ];
    await mistake(t, copy(source, destination, { ...options, reject: false }), code, text);
    t.deepEqual([source, destination].map(positionOf), [0, 0]);
  });
}

nativeTest('start and position are rejected for ends that are not regular files', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const { path } = sample(t, 1000);
  const file = opened(t, path, 'r+');
  const nothing = opened(t, '/dev/null', 'r+');
  for (const source of [a, nothing] as Source[]) {
    await mistake(t, copy(source, file, { start: 0 }), 'ERR_INVALID_ARG_VALUE', /start/);
  }
  for (const destination of [b, nothing] as const) {
    await mistake(t, copy(file, destination, { position: 0 }), 'ERR_INVALID_ARG_VALUE', /position/);
  }
  // Both sockets still belong to the caller.
  await peer.writeText(client, 'hello');
  t.is((await copy(a, b, { length: 5 })).tx, 5);
  t.is(await peer.readText(origin, 5), 'hello');
});

test.serial('a rejected copy is not counted and holds no descriptor', async (t) => {
  const { path } = sample(t, 1000);
  const [reads, wrong] = [opened(t, path), opened(t, path)];
  await sleep(100);
  const before = readdirSync('/proc/self/fd').length;
  const { completed, failed } = stats();
  for (let round = 0; round < 100; round += 1) {
    await t.throwsAsync(copy(reads, wrong));
    await t.throwsAsync(copy(reads, reads, { start: -1 }));
    await t.throwsAsync(sendFile(reads, wrong));
  }
  t.like(stats(), { completed, failed });
  t.true(readdirSync('/proc/self/fd').length <= before + 2);
});
