// Half-closes through a relay, in both orders and around its start: an end of input is passed on behind all data, and the
// other direction continues.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { relay, stats } from 'fdsplice';

import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';
import { watch } from '../helpers/watch.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;

for (const transport of ['tcp', 'unix'] as const) {
  for (const role of ['client', 'origin'] as const) {
    test.serial(`${transport}: 10 MiB still flow back to the ${role} after its half-close`, async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport);
      const [first, second] = role === 'client' ? [client, origin] : [origin, client];
      const transfer = relay(a, b);

      const sent = await peer.write(first, 1000, 1);
      await peer.shutdown(first);
      t.deepEqual(await peer.readToEnd(second), { ...sent, end: 'eof' });

      const back = peer.readToEnd(first);
      const answer = await peer.write(second, 10 * MiB, 2);
      await peer.shutdown(second);
      t.deepEqual(await back, { ...answer, end: 'eof' });

      const [tx, rx] = role === 'client' ? [1000, 10 * MiB] : [10 * MiB, 1000];
      t.like(await transfer, { tx, rx, total: tx + rx, engine, error: null });
    });
  }

  for (const role of ['client', 'origin'] as const) {
    test.serial(
      `${transport}: the relay waits in silence after the end of the ${role}, and the other direction still works`,
      async (t) => {
        const peer = Peer.start(t);
        const { a, b, client, origin } = await pair(t, peer, transport);
        const [first, second] = role === 'client' ? [client, origin] : [origin, client];
        const transfer = relay(a, b);
        const sent = await peer.write(first, 100_000, 1);
        await peer.shutdown(first);
        t.deepEqual(await peer.readToEnd(second), { ...sent, end: 'eof' });
        const ended = await Promise.race([transfer, sleep(2000)]);
        t.is(ended, undefined, 'one ended direction does not end the relay');
        t.like(stats(), { active: 1, pipes: { leased: 0 } });
        const back = peer.readToEnd(first);
        const answer = await peer.write(second, MiB, 2);
        await peer.shutdown(second);
        t.deepEqual(await back, { ...answer, end: 'eof' });
        const [tx, rx] = role === 'client' ? [100_000, MiB] : [MiB, 100_000];
        t.like(await transfer, { tx, rx, error: null });
      },
    );
  }

  test.serial(
    `${transport}: the end of input waits behind data that a stalled reader has not read`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport, { origin: { rcvbuf: 4096 } });
      const transfer = relay(a, b);
      // Writes small steps until the destination takes no more. The last step then stays inside the relay, with the end behind it.
      const step = 64 << 10;
      let sent = 0;
      do {
        await peer.write(client, step, 3);
        sent += step;
      } while (await becomesTrue(() => transfer.traffic.tx === sent));
      await peer.shutdown(client);
      await sleep(300);
      t.true(transfer.traffic.tx < sent);

      const ending = await peer.readToEnd(origin, { chunk: { min: 1, max: 128 << 10 }, pauseMs: 2 });
      t.deepEqual(ending, { bytes: sent, sha256: await peer.hash(3, sent), end: 'eof' });
      await peer.shutdown(origin);
      t.like(await transfer, { tx: sent, rx: 0 });
    },
  );

  test.serial(`${transport}: both sides can end at the same time`, async (t) => {
    const peer = Peer.start(t);
    const nextPair = await crossing(t, peer, transport);
    for (let round = 0; round < 100; round += 1) {
      const { a, b, client, origin } = await nextPair();
      const transfer = relay(a, b);
      const seen = [watch(a), watch(b)];
      const bytes = round % 2 === 0 ? 0 : 100_000;
      const endings = [client, origin].map(async (conn) => {
        void peer.write(conn, bytes, round);
        void peer.shutdown(conn);
        return peer.readToEnd(conn);
      });
      const expected = { bytes, sha256: await peer.hash(round, bytes), end: 'eof' };
      t.deepEqual(await Promise.all(endings), [expected, expected]);
      t.like(await within(10_000, `round ${round} ends`, transfer), { tx: bytes, rx: bytes, error: null });
      await Promise.all([peer.close(client), peer.close(origin)]);
      await until('both are closed', () => seen.every(({ close }) => close === 1), Boolean);
      t.deepEqual(
        seen.map(({ order }) => order),
        [
          ['end', 'close'],
          ['end', 'close'],
        ],
      );
    }
  });

  test.serial(
    `${transport}: an end of input received before the relay is passed on, and the other direction works`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport, { server: { allowHalfOpen: true } });
      a.resume();
      await peer.shutdown(client);
      await until('Node sees the end', () => a.readableEnded, Boolean);
      const transfer = relay(a, b);
      t.deepEqual(await peer.readToEnd(origin), { bytes: 0, sha256: await peer.hash(1, 0), end: 'eof' });
      const sent = await peer.write(origin, 100_000, 4);
      await peer.shutdown(origin);
      t.deepEqual(await peer.readToEnd(client), { ...sent, end: 'eof' });
      t.like(await transfer, { tx: 0, rx: 100_000 });
    },
  );

  test.serial(
    `${transport}: a socket that was ended before the relay still relays in the other direction`,
    async (t) => {
      const peer = Peer.start(t);
      const { a, b, client, origin } = await pair(t, peer, transport, { server: { allowHalfOpen: true } });
      a.end();
      await until('the end is sent', () => a.writableFinished, Boolean);
      const transfer = relay(a, b);
      t.like(await peer.readToEnd(client), { bytes: 0, end: 'eof' });
      const sent = await peer.write(client, 100_000, 4);
      await peer.shutdown(client);
      t.deepEqual(await peer.readToEnd(origin), { ...sent, end: 'eof' });
      await peer.shutdown(origin);
      t.like(await transfer, { tx: 100_000, rx: 0 });
    },
  );
}

/** Whether a condition becomes true within a second. */
async function becomesTrue(condition: () => boolean): Promise<boolean> {
  return until('', condition, Boolean, 1000).then(
    () => true,
    () => false,
  );
}
