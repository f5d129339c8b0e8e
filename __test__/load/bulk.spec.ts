// Bulk, single bytes and small messages through a relay: the bytes arrive intact, the counts match, and bulk over TCP
// stays in the kernel.
import test from 'ava';
import { relay } from 'fdsplice';

import { engine, nativeTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;

for (const transport of ['tcp', 'unix'] as const) {
  test.serial(
    `${transport}: 256 MiB arrive intact both ways at once, in random chunks with random pauses`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport);
      const transfer = relay(a, b);
      const bytes = 256 * MiB;
      const pace = { chunk: { min: 1, max: MiB }, pauseMs: 10 };
      const endings = Promise.all([peer.readToEnd(origin, pace), peer.readToEnd(client, pace)]);
      const sent = await Promise.all([
        peer.write(client, bytes, 1, pace),
        peer.write(origin, bytes, 2, pace),
      ]);
      await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
      t.deepEqual(
        await endings,
        sent.map((digest) => ({ ...digest, end: 'eof' })),
      );
      t.like(await transfer, { tx: bytes, rx: bytes, total: 2 * bytes });
    },
  );

  test.serial(`${transport}: 100,000 one-byte writes arrive intact`, async (t) => {
    const peer = Peer.start(t);
    const options = transport === 'tcp' ? { client: { nodelay: true } } : {};
    const { a, b, client, origin } = await pair(t, peer, transport, options);
    const transfer = relay(a, b);
    const reading = peer.readToEnd(origin);
    const sent = await peer.write(client, 100_000, 3, { chunk: 1 });
    await peer.shutdown(client);
    t.deepEqual(await reading, { ...sent, end: 'eof' });
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 100_000, rx: 0 });
  });

  test.serial(`${transport}: small messages go back and forth intact`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer, transport);
    const transfer = relay(a, b);
    for (let round = 0; round < 1000; round += 1) {
      void peer.write(client, 64, 4);
      await peer.read(origin, 64);
      void peer.write(origin, 64, 5);
      await peer.read(client, 64);
    }
    await peer.shutdown(client);
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 64_000, rx: 64_000 });
  });
}

for (const [direction, from, to] of [
  ['towards b', 'client', 'origin'],
  ['towards a', 'origin', 'client'],
] as const) {
  nativeTest(`bulk over TCP ${direction} stays in the kernel`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    const bytes = 128 * MiB;
    const reading = peer.readToEnd(made[to]);
    await peer.write(made[from], bytes, 6);
    await peer.shutdown(made[from]);
    t.is((await reading).bytes, bytes);
    await peer.shutdown(made[to]);
    const result = await transfer;
    t.is(result.total, bytes);
    t.true(result.zeroCopy >= 0.9 * result.total, `${result.zeroCopy} of ${result.total}`);
    t.true(result.zeroCopy <= result.total);
    t.true(result.durationMs > 0);
  });
}

test.serial('zeroCopy: false moves every byte through user space', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { zeroCopy: false });
  const reading = peer.readToEnd(origin);
  const sent = await peer.write(client, 64 * MiB, 7);
  await peer.shutdown(client);
  t.deepEqual(await reading, { ...sent, end: 'eof' });
  await peer.shutdown(origin);
  t.like(await transfer, { tx: 64 * MiB, zeroCopy: 0, engine });
});

for (const pipeSize of [4096, 64 << 10, MiB, 1 << 30]) {
  test.serial(`a requested pipe size of ${pipeSize} bytes changes no byte`, async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    const transfer = relay(a, b, { pipeSize });
    const reading = peer.readToEnd(origin);
    const sent = await peer.write(client, 16 * MiB, 8, { chunk: { min: 1, max: 256 << 10 } });
    await peer.shutdown(client);
    t.deepEqual(await reading, { ...sent, end: 'eof' });
    await peer.shutdown(origin);
    t.like(await transfer, { tx: 16 * MiB, rx: 0 });
  });
}

test.serial('live counts grow during the transfer and end equal to the result', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b);
  t.deepEqual(transfer.traffic, { tx: 0, rx: 0, total: 0 });
  const bytes = 64 * MiB;
  const endings = Promise.all([peer.readToEnd(origin), peer.readToEnd(client)]);
  const pace = { chunk: 256 << 10, pauseMs: 10 };
  const writing = Promise.all([peer.write(client, bytes, 1, pace), peer.write(origin, bytes, 2, pace)]);

  let last = transfer.traffic;
  const between = new Set<number>();
  const timer = setInterval(() => {
    const now = transfer.traffic;
    t.true(now.tx >= last.tx && now.rx >= last.rx);
    t.is(now.total, now.tx + now.rx);
    if (now.tx > 0 && now.tx < bytes) {
      between.add(now.tx);
    }
    last = now;
  }, 5);
  await writing;
  clearInterval(timer);
  t.true(between.size > 10, `${between.size} different counts were seen on the way`);

  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  await endings;
  const { tx, rx, total } = await transfer;
  t.deepEqual(transfer.traffic, { tx, rx, total });
  t.deepEqual([tx, rx], [bytes, bytes]);
});

test.serial('concurrent relays each deliver their own bytes', async (t) => {
  const peer = Peer.start(t);
  const made = await Promise.all(Array.from({ length: 30 }, () => pair(t, peer)));
  await Promise.all(
    made.map(async ({ a, b, client, origin }, index) => {
      const transfer = relay(a, b);
      const bytes = 2 * MiB + index;
      const endings = Promise.all([peer.readToEnd(origin), peer.readToEnd(client)]);
      const sent = await Promise.all([
        peer.write(client, bytes, 2 * index),
        peer.write(origin, bytes, 2 * index + 1),
      ]);
      await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
      t.deepEqual(
        await endings,
        sent.map((digest) => ({ ...digest, end: 'eof' })),
      );
      t.like(await transfer, { tx: bytes, rx: bytes });
    }),
  );
});
