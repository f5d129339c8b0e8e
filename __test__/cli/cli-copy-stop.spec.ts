// How `fdsplice copy` stops on signals, applies its limits, and waits for the acknowledgement of the last byte.
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import type { ExecutionContext } from 'ava';

import { Copy, fifo, firstConnection } from '../helpers/cli/copy.js';
import { connect, directory, endingOf, silent } from '../helpers/local-peers.js';
import { queuesOf } from '../helpers/tcp-table.js';
import { coreTest as test } from '../helpers/engine.js';
import { Peer } from '../helpers/peer.js';
import { steady, until, within } from '../helpers/wait.js';

const MiB = 1 << 20;

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test.serial(`${signal} stops a copy to a file with exit status 1 and the exact count`, async (t) => {
    const to = join(await directory(t), 'to');
    const copy = new Copy(t, '--rate-limit', '1MiB', '/dev/zero', to);
    await until(
      'the file has bytes',
      () => size(to),
      (bytes) => bytes > 0,
    );
    copy.child.kill(signal);
    const { status, copied } = await copy.ended();
    t.is(status, 1);
    t.is(copied.bytes, await size(to));
    t.like(copied.error, { code: 'ABORT_ERR', message: `interrupted after ${copied.bytes} bytes` });
  });
}

test.serial('SIGINT stops a copy to a socket, resets the peer, and counts what it received', async (t) => {
  const { port, connection } = await firstConnection(t);
  const copy = new Copy(t, '--rate-limit', '4MiB', '/dev/zero', `tcp:127.0.0.1:${port}`);
  const receiver = await connection;
  let received = 0;
  receiver.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await until(
    'bytes have arrived',
    () => received,
    (bytes) => bytes > 100_000,
  );
  const ending = endingOf(receiver);
  copy.child.kill('SIGINT');
  const { status, copied } = await copy.ended();
  t.is(status, 1);
  t.is(await ending, 'ECONNRESET');
  t.is(copied.bytes, received);
});

test.serial(
  'SIGINT stops a copy to a peer that does not read, and counts only what the peer can read',
  async (t) => {
    const peer = Peer.start(t);
    const copy = new Copy(t, '/dev/zero', 'listen:127.0.0.1:0');
    const { port = 0 } = await copy.listening();
    const { conn, localPort } = await peer.connect({ port });
    const waiting = async () => (await queuesOf(port, localPort ?? 0)).unacknowledged;
    await steady('the buffers are full', waiting);
    copy.child.kill('SIGINT');
    const { status, copied } = await within(20_000, 'the copy ends', copy.ended());
    t.is(status, 1);
    t.like(await peer.readToEnd(conn), { bytes: copied.bytes, end: 'reset' });
  },
);

test.serial('a second signal resets a peer that does not read, without waiting for it', async (t) => {
  const peer = Peer.start(t);
  const copy = new Copy(t, '/dev/zero', 'listen:127.0.0.1:0');
  const { port = 0 } = await copy.listening();
  const { conn, localPort } = await peer.connect({ port });
  const waiting = async () => (await queuesOf(port, localPort ?? 0)).unacknowledged;
  await steady('the buffers are full', waiting);
  copy.child.kill('SIGINT');
  copy.child.kill('SIGTERM');
  const { status, copied } = await within(20_000, 'the copy ends', copy.ended());
  t.is(status, 1);
  t.like(copied.error, { code: 'ABORT_ERR', message: `interrupted after ${copied.bytes} bytes` });
  t.like(await peer.readToEnd(conn), { bytes: copied.bytes, end: 'reset' });
});

for (const waiting of ['listens', 'waits for the other end of a FIFO'] as const) {
  test.serial(`SIGINT stops a copy that still ${waiting}`, async (t) => {
    const to = join(await directory(t), 'to');
    const from = waiting === 'listens' ? 'listen:127.0.0.1:0' : await fifo(t);
    const copy = new Copy(t, from, `listen:unix:${to}`);
    await copy.listening(waiting === 'listens' ? 1 : 0);
    copy.child.kill('SIGINT');
    const { status, copied } = await within(20_000, 'the copy ends', copy.ended());
    t.is(status, 1);
    t.like(copied, {
      bytes: 0,
      engine: null,
      error: { code: 'ABORT_ERR', message: 'interrupted after 0 bytes' },
    });
    t.false(existsSync(to));
  });
}

test.serial('a copy waits until the last byte is acknowledged, without a time limit', async (t) => {
  const { copy, receiver, bytes } = await acceptedButNotRead(t);
  t.is(copy.child.exitCode, null);
  const received = buffer(receiver);
  t.deepEqual(await received, bytes);
  receiver.end();
  const { status, copied } = await copy.ended();
  t.is(status, 0);
  t.like(copied, { bytes: bytes.length, error: null });
});

test.serial(
  'a copy fails if the peer resets before it has every byte, even after all bytes were accepted',
  async (t) => {
    const { copy, receiver, bytes } = await acceptedButNotRead(t);
    receiver.resetAndDestroy();
    const { status, copied } = await copy.ended();
    t.is(status, 1);
    t.like(copied, { bytes: bytes.length, error: { code: 'ECONNRESET', side: 'destination' } });
  },
);

test.serial('a copy does not wait for the peer to end its side', async (t) => {
  const { port, connection } = await firstConnection(t);
  const copy = new Copy(t, '/proc/self/status', `tcp:127.0.0.1:${port}`);
  const receiver = await connection;
  t.is(await endingOf(receiver), 'end');
  const { status } = await within(20_000, 'the copy ends', copy.ended());
  t.is(status, 0);
});

test.serial('--idle-timeout ends a copy in which nothing moves', async (t) => {
  const to = join(await directory(t), 'to');
  const { status, copied } = await new Copy(t, '--idle-timeout', '1s', `tcp:${await silent(t)}`, to).ended();
  t.is(status, 1);
  t.like(copied, { bytes: 0, error: { code: 'ERR_IDLE_TIMEOUT' } });
  t.true(copied.durationMs >= 1000);
});

test.serial('--idle-timeout also ends a copy that waits for the peer to read the last bytes', async (t) => {
  const { copy, bytes } = await acceptedButNotRead(t, '--idle-timeout', '1s');
  const { status, copied } = await within(30_000, 'the copy ends', copy.ended());
  t.is(status, 1);
  t.is(copied.error?.code, 'ERR_IDLE_TIMEOUT');
  t.regex(copied.error?.message ?? '', / \d+ bytes that were accepted did not arrive$/);
  t.true(copied.bytes > 0 && copied.bytes < bytes.length, `${copied.bytes} bytes`);
});

test.serial('--rate-limit limits the rate of a copy', async (t) => {
  const folder = await directory(t);
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  await writeFile(from, Buffer.alloc(3 * MiB));
  const { status, copied } = await new Copy(t, '--rate-limit', '1MiB', from, to).ended();
  t.is(status, 0);
  t.is((await readFile(to)).length, 3 * MiB);
  t.true(copied.durationMs > 2400 && copied.durationMs < 15_000, `${copied.durationMs} ms`);
});

async function size(path: string): Promise<number> {
  return existsSync(path) ? (await stat(path)).size : 0;
}

/** A copy whose bytes are all accepted by the kernel, but not all received on the peer's side. */
async function acceptedButNotRead(t: ExecutionContext, ...options: string[]) {
  const copy = new Copy(t, ...options, '-', 'listen:127.0.0.1:0');
  const receiver = await connect(t, await copy.listening());
  const { localPort = 0, remotePort = 0 } = receiver;
  const bytes = Buffer.alloc(400_000, 'fdsplice');
  copy.child.stdin.end(bytes);
  await once(receiver, 'readable');
  await until(
    'all bytes are accepted, but not all received',
    async () => {
      const { unread } = await queuesOf(localPort, remotePort);
      const { unacknowledged } = await queuesOf(remotePort, localPort);
      return { accepted: receiver.bytesRead + unread + unacknowledged, unacknowledged };
    },
    ({ accepted, unacknowledged }) => accepted === bytes.length && unacknowledged > 0,
  );
  return { copy, receiver, bytes };
}
