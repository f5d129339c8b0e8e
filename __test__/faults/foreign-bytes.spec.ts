// Bytes of one transfer never come out of another, whatever happens to pipes and descriptor numbers.
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { copy, relay, sendFile, stats } from 'fdsplice';

import { descriptorOf } from '../helpers/descriptors.js';
import { sha256 } from '../helpers/copy-files.js';
import { coreTest as test } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { leavesNothing } from '../helpers/left.js';
import { crossing } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;

test.serial('a pipe that an aborted relay left full never reaches the next borrower', async (t) => {
  const peer = Peer.start(t);
  const meet = await crossing(t, peer, 'tcp');
  let dirty = 0;
  await leavesNothing(t, async () => {
    for (let round = 0; round < 40; round += 1) {
      // Enough of each kind that every thread of the core has one of the broken and one of the whole.
      const broken = await Promise.all([meet(), meet(), meet(), meet()]);
      const whole = await Promise.all([meet(), meet(), meet(), meet()]);
      const transfers = broken.map(({ a, b }) => relay(a, b));
      for (const { client } of broken) peer.write(client, 64 * MiB, 1000 + round).catch(() => {});
      // Not to each: one that has filled its destination gives its pipe up again.
      dirty += await until(
        'a pipe is on loan',
        () => stats().pipes.leased,
        (leased) => leased > 0,
      );
      for (const transfer of transfers) transfer.abort();
      await Promise.all(transfers.map((transfer) => failure(t, transfer)));
      await Promise.all(
        whole.map(async ({ a, b, client, origin }, index) => {
          const transfer = relay(a, b);
          const bytes = 2 * MiB + index;
          const reading = peer.readToEnd(origin);
          const sent = await peer.write(client, bytes, round * 10 + index);
          await peer.shutdown(client);
          t.deepEqual(await reading, { ...sent, end: 'eof' });
          await peer.shutdown(origin);
          t.like(await transfer, { tx: bytes, rx: 0 });
        }),
      );
      for (const { client, origin } of [...broken, ...whole]) {
        await Promise.allSettled([peer.close(client), peer.close(origin)]);
      }
    }
  });
  t.log(`${dirty} pipes were on loan when their relays were aborted`);
});

/** Opens files until one of them has the wanted number; the others are closed again. */
function takeNumber(number: number, path: string): number {
  const others: number[] = [];
  for (;;) {
    const fd = openSync(path, 'a+');
    if (fd === number) {
      for (const other of others) closeSync(other);
      return fd;
    }
    others.push(fd);
    if (others.length > 500) throw new Error(`number ${number} is not free`);
  }
}

for (const verb of ['relay', 'copy', 'sendFile'] as const) {
  test.serial(
    `numbers closed and reused while a ${verb} runs on them get no byte and lose none`,
    async (t) => {
      const peer = Peer.start(t);
      const meet = await crossing(t, peer, 'tcp', { untouched: true });
      const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
      t.teardown(() => rmSync(directory, { recursive: true }));
      const bytes = 4 * MiB + 7;
      await leavesNothing(t, async () => {
        for (let round = 0; round < 10; round += 1) {
          const { a, b, client, origin } = await meet();
          const seed = round + 1;
          const [from, to] = [descriptorOf(a), descriptorOf(b)];
          const file = join(directory, `source-${round}`);
          let source = -1;
          if (verb === 'sendFile') {
            writeFileSync(file, Buffer.alloc(bytes, round + 1));
            source = openSync(file, 'r');
          }
          const transfer =
            verb === 'relay' ? relay(from, to) : verb === 'copy' ? copy(from, to) : sendFile(source, to);
          // Half of it has gone before the numbers change their meaning.
          const half = bytes >> 1;
          if (verb !== 'sendFile') await peer.write(client, half, seed);
          const first = await peer.read(origin, half);
          const closed = verb === 'sendFile' ? [source, to] : [from, to];
          if (verb === 'sendFile') closeSync(source);
          a.destroy();
          b.destroy();
          await until('both are closed', () => a.closed && b.closed, Boolean);
          const foreign = closed.map((number, index) => {
            const path = join(directory, `foreign-${round}-${index}`);
            writeFileSync(path, 'what stood here');
            return { path, fd: takeNumber(number, path) };
          });
          const reading = peer.readToEnd(origin);
          let rest = '';
          if (verb !== 'sendFile') {
            rest = (await peer.write(client, bytes - half, seed)).sha256;
            await peer.shutdown(client);
          }
          if (verb === 'relay') await peer.shutdown(origin);
          t.like(await transfer, { tx: bytes, rx: 0 });
          // A copy ends nothing, but it held the last descriptors of sockets that were destroyed.
          const second = await reading;
          t.like(second, { bytes: bytes - half, end: 'eof' });
          t.is((await peer.counts(origin)).received, bytes);
          const sent =
            verb === 'sendFile'
              ? [sha256(Buffer.alloc(half, seed)), sha256(Buffer.alloc(bytes - half, seed))]
              : [await peer.hash(seed, half), rest];
          t.deepEqual([first.sha256, second.sha256], sent);
          for (const { path, fd } of foreign) {
            t.is(readFileSync(path, 'utf8'), 'what stood here');
            t.is(statSync(path).size, 15);
            closeSync(fd);
          }
          await Promise.allSettled([peer.close(client), peer.close(origin)]);
        }
      });
    },
  );
}
