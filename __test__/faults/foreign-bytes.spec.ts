// Bytes of one transfer never appear in another, even if pipes stay full or descriptor numbers are reused.
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

test.serial('a pipe that an aborted relay left full is never leased again', async (t) => {
  const peer = Peer.start(t);
  const meet = await crossing(t, peer, 'tcp');
  let dirty = 0;
  await leavesNothing(t, async () => {
    for (let round = 0; round < 40; round += 1) {
      // Enough relays that every thread of the core runs an aborted and a complete one.
      const aborted = await Promise.all([meet(), meet(), meet(), meet()]);
      const complete = await Promise.all([meet(), meet(), meet(), meet()]);
      const transfers = aborted.map(({ a, b }) => relay(a, b));
      for (const { client } of aborted) peer.write(client, 64 * MiB, 1000 + round).catch(() => {});
      // At least one: a relay with a full destination returns its pipe.
      dirty += await until(
        'a pipe is leased',
        () => stats().pipes.leased,
        (leased) => leased > 0,
      );
      for (const transfer of transfers) transfer.abort();
      await Promise.all(transfers.map((transfer) => failure(t, transfer)));
      await Promise.all(
        complete.map(async ({ a, b, client, origin }, index) => {
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
      for (const { client, origin } of [...aborted, ...complete]) {
        await Promise.allSettled([peer.close(client), peer.close(origin)]);
      }
    }
  });
  t.log(`${dirty} pipes were leased when their relays were aborted`);
});

/** Opens a file under a given descriptor number. Opens that get another number are closed again. */
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
    `descriptor numbers that are closed and reused while a ${verb} runs on them get no byte and lose none`,
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
          // Half of the bytes have arrived before the numbers are reused.
          const half = bytes >> 1;
          if (verb !== 'sendFile') await peer.write(client, half, seed);
          const first = await peer.read(origin, half);
          const closed = verb === 'sendFile' ? [source, to] : [from, to];
          if (verb === 'sendFile') closeSync(source);
          a.destroy();
          b.destroy();
          await until('both sockets are closed', () => a.closed && b.closed, Boolean);
          const foreign = closed.map((number, index) => {
            const path = join(directory, `foreign-${round}-${index}`);
            writeFileSync(path, 'earlier contents');
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
          // A copy does not end its destination, but its duplicate was the last descriptor of the destroyed socket.
          const second = await reading;
          t.like(second, { bytes: bytes - half, end: 'eof' });
          t.is((await peer.counts(origin)).received, bytes);
          const sent =
            verb === 'sendFile'
              ? [sha256(Buffer.alloc(half, seed)), sha256(Buffer.alloc(bytes - half, seed))]
              : [await peer.hash(seed, half), rest];
          t.deepEqual([first.sha256, second.sha256], sent);
          for (const { path, fd } of foreign) {
            t.is(readFileSync(path, 'utf8'), 'earlier contents');
            t.is(statSync(path).size, 16);
            closeSync(fd);
          }
          await Promise.allSettled([peer.close(client), peer.close(origin)]);
        }
      });
    },
  );
}
