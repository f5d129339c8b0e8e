// How `fdsplice copy` is stopped, limited, and waits for what is still on its way.
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
  test.serial(
    `${signal} stops a copy to a file: exit status 1, and the count is what the file has`,
    async (t) => {
      const to = join(await directory(t), 'to');
      const copy = new Copy(t, '--rate-limit', '1MiB', '/dev/zero', to);
      await until(
        'something is in the file',
        () => size(to),
        (bytes) => bytes > 0,
      );
      copy.child.kill(signal);
      const { status, copied } = await copy.ended();
      t.is(status, 1);
      t.is(copied.bytes, await size(to));
      t.like(copied.error, { code: 'ABORT_ERR', message: `interrupted after ${copied.bytes} bytes` });
    },
  );
}

test.serial('SIGINT stops a copy to a socket: the peer is reset, and has what was counted', async (t) => {
  const { port, connection } = await firstConnection(t);
  const copy = new Copy(t, '--rate-limit', '4MiB', '/dev/zero', `tcp:127.0.0.1:${port}`);
  const receiver = await connection;
  let received = 0;
  receiver.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await until(
    'something has arrived',
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
  'SIGINT stops a copy to a peer that does not read: counted is only what it can read',
  async (t) => {
    const peer = Peer.start(t);
    const copy = new Copy(t, '/dev/zero', 'listen:127.0.0.1:0');
    const { port = 0 } = await copy.listening();
    const { conn, localPort } = await peer.connect({ port });
    const waiting = async () => (await queuesOf(port, localPort ?? 0)).unacknowledged;
    await steady('there is no more room', waiting);
    copy.child.kill('SIGINT');
    const { status, copied } = await within(20_000, 'the copy ends', copy.ended());
    t.is(status, 1);
    t.like(await peer.readToEnd(conn), { bytes: copied.bytes, end: 'reset' });
  },
);

test.serial('a second signal does not wait for a peer to read, and resets it all the same', async (t) => {
  const peer = Peer.start(t);
  const copy = new Copy(t, '/dev/zero', 'listen:127.0.0.1:0');
  const { port = 0 } = await copy.listening();
  const { conn, localPort } = await peer.connect({ port });
  const waiting = async () => (await queuesOf(port, localPort ?? 0)).unacknowledged;
  await steady('there is no more room', waiting);
  copy.child.kill('SIGINT');
  copy.child.kill('SIGTERM');
  const { status, copied } = await within(20_000, 'the copy ends', copy.ended());
  t.is(status, 1);
  t.like(copied.error, { code: 'ABORT_ERR', message: `interrupted after ${copied.bytes} bytes` });
  t.like(await peer.readToEnd(conn), { bytes: copied.bytes, end: 'reset' });
});

for (const waiting of ['listens', 'waits for the other end of a FIFO'] as const) {
  test.serial(`SIGINT while it ${waiting}`, async (t) => {
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

test.serial('it waits until the last byte has been acknowledged, however long that takes', async (t) => {
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
  'a peer that resets before it has everything is a failure, though all bytes were accepted',
  async (t) => {
    const { copy, receiver, bytes } = await acceptedButNotRead(t);
    receiver.resetAndDestroy();
    const { status, copied } = await copy.ended();
    t.is(status, 1);
    t.like(copied, { bytes: bytes.length, error: { code: 'ECONNRESET', side: 'destination' } });
  },
);

test.serial('a peer that never ends its side does not hold it', async (t) => {
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

test.serial('--idle-timeout also ends one that waits for a peer to take the last bytes', async (t) => {
  const { copy, bytes } = await acceptedButNotRead(t, '--idle-timeout', '1s');
  const { status, copied } = await within(30_000, 'the copy ends', copy.ended());
  t.is(status, 1);
  t.is(copied.error?.code, 'ERR_IDLE_TIMEOUT');
  t.regex(copied.error?.message ?? '', / \d+ bytes that were accepted did not arrive$/);
  t.true(copied.bytes > 0 && copied.bytes < bytes.length, `${copied.bytes} bytes`);
});

test.serial('--rate-limit limits', async (t) => {
  const where = await directory(t);
  const [from, to] = [join(where, 'from'), join(where, 'to')];
  await writeFile(from, Buffer.alloc(3 * MiB));
  const { status, copied } = await new Copy(t, '--rate-limit', '1MiB', from, to).ended();
  t.is(status, 0);
  t.is((await readFile(to)).length, 3 * MiB);
  t.true(copied.durationMs > 2400 && copied.durationMs < 15_000, `${copied.durationMs} ms`);
});

async function size(path: string): Promise<number> {
  return existsSync(path) ? (await stat(path)).size : 0;
}

/** A copy whose bytes are all in the kernel, some of them not yet on the peer's side of the connection. */
async function acceptedButNotRead(t: ExecutionContext, ...options: string[]) {
  const copy = new Copy(t, ...options, '-', 'listen:127.0.0.1:0');
  const receiver = await connect(t, await copy.listening());
  const { localPort = 0, remotePort = 0 } = receiver;
  const bytes = Buffer.alloc(400_000, 'fdsplice');
  copy.child.stdin.end(bytes);
  await once(receiver, 'readable');
  await until(
    'all bytes are in the kernel, not all on the other side',
    async () => {
      const { unread } = await queuesOf(localPort, remotePort);
      const { unacknowledged } = await queuesOf(remotePort, localPort);
      return { accepted: receiver.bytesRead + unread + unacknowledged, unacknowledged };
    },
    ({ accepted, unacknowledged }) => accepted === bytes.length && unacknowledged > 0,
  );
  return { copy, receiver, bytes };
}
