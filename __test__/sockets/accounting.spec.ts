// Counts: of a result, of the sockets, of the process. They must agree with the bytes that the peers saw, while a transfer
// runs and afterwards.
import { readFileSync } from 'node:fs';
import { release } from 'node:os';

import test from 'ava';
import { capabilities, copy, relay, stats } from 'fdsplice';

import { opened, sample, sink } from '../helpers/copy-files.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until } from '../helpers/wait.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;

for (const transport of ['tcp', 'unix'] as const) {
  test.serial(
    `${transport}: bytesRead and bytesWritten include native bytes, during the relay and afterwards`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport);
      await peer.writeText(client, 'buffered');
      await until(
        'Node has it',
        () => a.readableLength,
        (length) => length === 8,
      );
      b.write('written');
      const transfer = relay(a, b, { headFromA: Buffer.from('head') });
      const [tx, rx] = [4 + 8 + 3 * MiB, 5 * MiB];
      await Promise.all([peer.write(client, 3 * MiB, 1), peer.read(origin, 7 + tx)]);
      await Promise.all([peer.write(origin, 5 * MiB, 2), peer.read(client, rx)]);

      // Node does not count the head again: it counted those bytes when it read them.
      const expected = [tx - 4, rx, rx, tx + 7];
      const look = () => [a.bytesRead, a.bytesWritten, b.bytesRead, b.bytesWritten];
      const same = (seen: number[]) => seen.every((value, index) => value === expected[index]);
      await until(`live counts are ${expected.join()}`, look, same, 5000);
      await peer.shutdown(client);
      await peer.shutdown(origin);
      t.like(await transfer, { tx, rx });
      t.deepEqual(look(), expected);
      await until('both are closed', () => a.closed && b.closed, Boolean);
      t.deepEqual(look(), expected);
    },
  );

  test.serial(`${transport}: the counts equal the bytes that the peers saw`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b);
    const endings = Promise.all([peer.readToEnd(origin), peer.readToEnd(client)]);
    const pace = { chunk: { min: 1, max: 100_000 }, pauseMs: 1 };
    await Promise.all([peer.write(client, 12_345_678, 1, pace), peer.write(origin, 8_765_432, 2, pace)]);
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    const [atOrigin, atClient] = await endings;
    const result = await transfer;
    t.deepEqual([result.tx, result.rx], [atOrigin.bytes, atClient.bytes]);
    t.is(result.total, 12_345_678 + 8_765_432);
  });
}

test.serial(
  'counts include bytes that the destination accepted, not bytes that were only read',
  async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, 'unix', { origin: { rcvbuf: 4096 } });
    const transfer = relay(a, b);
    peer.write(client, 64 * MiB, 1).catch(() => {});
    let last = -1;
    await until(
      'the relay is blocked',
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 300));
        const { tx } = transfer.traffic;
        const still = tx === last && tx > 0;
        last = tx;
        return still;
      },
      Boolean,
    );
    transfer.abort();
    const { traffic } = await failure(t, transfer);
    const { bytes } = await peer.readToEnd(origin);
    // A Unix socket keeps accepted bytes for its reader, so the native count is exact. A stream counts a chunk once all of
    // it was accepted.
    if (isNative) t.is(bytes, traffic.tx);
    else
      t.true(bytes >= traffic.tx && bytes - traffic.tx <= 64 * 1024, `${traffic.tx}, and ${bytes} arrived`);
  },
);

test.serial('stats() counts the transfers of the whole process', async (t) => {
  const before = stats();
  t.is(before.active, 0);
  const peer = Peer.start(t);
  const made = [await pair(t, peer), await pair(t, peer)] as const;
  const [good, bad] = made.map(({ a, b }) => relay(a, b)) as [
    ReturnType<typeof relay>,
    ReturnType<typeof relay>,
  ];
  for (const { client, origin } of made) {
    await Promise.all([peer.write(client, 8 * MiB, 1), peer.read(origin, 8 * MiB)]);
    await Promise.all([peer.write(origin, MiB, 1), peer.read(client, MiB)]);
  }
  const during = await until(
    'live counts arrive',
    stats,
    ({ total }) => total - before.total === 18 * MiB,
    5000,
  );
  t.is(during.active, 2);
  t.is(during.tx - before.tx, 16 * MiB);
  t.is(during.rx - before.rx, 2 * MiB);
  t.is(during.zeroCopy - before.zeroCopy > 0, isNative);

  await peer.reset(made[1].client);
  await failure(t, bad);
  await peer.shutdown(made[0].client);
  await peer.shutdown(made[0].origin);
  const result = await good;
  const after = stats();
  t.is(after.active, 0);
  t.is(after.completed - before.completed, 1);
  t.is(after.failed - before.failed, 1);
  t.is(after.total - before.total, 18 * MiB);
  t.is(after.total, after.tx + after.rx);
  t.true(after.zeroCopy - before.zeroCopy >= result.zeroCopy);
  t.is(after.pipes.leased, 0);
  t.true(after.pipes.created >= after.pipes.idle);
  t.is(after.pipes.created > 0, isNative);
  t.is(after.held.bytes, 0);
  t.is(after.held.limit > 0, isNative);
});

nativeTest('capabilities() reports what this machine supports', (t) => {
  const found = capabilities();
  t.like(found, { native: true, splice: true, sendfile: true, copyFileRange: true, kernel: release() });
  t.is(found.reason, undefined);
  t.true(found.platform.startsWith(`${process.platform}-${process.arch}`), found.platform);
  t.is(found.pipeMaxSize, Number(readFileSync('/proc/sys/fs/pipe-max-size', 'utf8')));
});

nativeTest('transfers that end while the event loop is busy settle in one turn of it', async (t) => {
  const { path } = sample(t, 10);
  const [from, to] = [opened(t, path), sink(t)];
  const count = 2_000;
  let settled = 0;
  let inFirstTurn = 0;
  const note = () => {
    // Another wake-up of the event loop would come after this callback.
    if (settled === 0) setImmediate(() => (inFirstTurn = settled));
    settled += 1;
  };
  const transfers = Array.from({ length: count }, () => copy(from, to, { start: 0 }).then(note));
  const still = new Int32Array(new SharedArrayBuffer(4));
  const deadline = performance.now() + 60_000;
  while (stats().active > 0 && performance.now() < deadline) Atomics.wait(still, 0, 0, 10);
  // A transfer is counted as ended shortly before its completion is queued.
  Atomics.wait(still, 0, 0, 200);
  t.is(settled, 0);
  await Promise.all(transfers);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(inFirstTurn, count);
});
