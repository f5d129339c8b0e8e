// Traffic patterns that have broken other relays: Nagle's algorithm, the tail of bulk, segment-sized writes, pauses, empty
// streams and early closes.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { relay } from 'fdsplice';

import { nativeTest } from '../helpers/engine.js';
import { leavesNothing, nothingIsLeft } from '../helpers/left.js';
import { crossing, pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady } from '../helpers/wait.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;
/** Payload of one TCP segment over Ethernet. */
const MSS = 1448;

test.serial(
  'a ping-pong with Nagle on at both peers does not wait for delayed acknowledgements',
  async (t) => {
    const peer = Peer.start(t);
    // The peers keep Nagle's algorithm: only the relay may switch it off, on its own sockets.
    const { a, b, client, origin } = await pair(t, peer, 'tcp', {
      client: { nodelay: false },
      origin: { nodelay: false },
    });
    const transfer = relay(a, b);
    const times: number[] = [];
    for (let round = 0; round < 200; round += 1) {
      const started = performance.now();
      // One segment each way. A segment that is held back waits 40 ms (delayed acknowledgement) or
      // 200 ms (SPLICE_F_MORE).
      await Promise.all([peer.write(client, 600, 1), peer.read(origin, 600)]);
      await Promise.all([peer.write(origin, 600, 2), peer.read(client, 600)]);
      times.push(performance.now() - started);
    }
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    t.like(await transfer, { tx: 120_000, rx: 120_000 });
    const sorted = times.toSorted((one, other) => one - other);
    const median = sorted[100] ?? NaN;
    t.log(`median ${median.toFixed(2)} ms, ${times.filter((ms) => ms > 35).length} of 200 above 35 ms`);
    t.true(median < 20, `median ${median} ms`);
  },
);

test.serial('the tail of a bulk answer is not held back when requests and answers alternate', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer, 'tcp', { client: { nodelay: false } });
  const transfer = relay(a, b);
  const rounds = 60;
  const answer = 300_001;
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const started = performance.now();
    await Promise.all([peer.write(client, 100, 1), peer.read(origin, 100)]);
    const [sent, received] = await Promise.all([peer.write(origin, answer, 2), peer.read(client, answer)]);
    t.is(received.sha256, sent.sha256);
    times.push(performance.now() - started);
  }
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  t.like(await transfer, { tx: rounds * 100, rx: rounds * answer });
  const median = times.toSorted((one, other) => one - other)[rounds / 2] ?? NaN;
  t.log(`median ${median.toFixed(2)} ms`);
  t.true(median < 40, `median ${median} ms: the tail waits`);
});

for (const transport of ['tcp', 'unix'] as const) {
  test.serial(
    `${transport}: MSS-sized segments to a slow reader arrive intact, and no resource is left`,
    async (t) => {
      const peer = Peer.start(t);
      const nextPair = await crossing(t, peer, transport, {
        client: transport === 'tcp' ? { nodelay: true } : {},
        origin: { rcvbuf: 8192 },
      });
      await leavesNothing(t, async () => {
        const { a, b, client, origin } = await nextPair();
        const transfer = relay(a, b);
        const reading = peer.readToEnd(origin, { chunk: { min: 1, max: 32 * 1024 }, pauseMs: 1 });
        const sent = await peer.write(client, 6 * MiB + 1, 1, { chunk: MSS });
        await peer.shutdown(client);
        t.deepEqual(await reading, { ...sent, end: 'eof' });
        await peer.shutdown(origin);
        t.like(await transfer, { tx: 6 * MiB + 1, rx: 0 });
        await Promise.all([peer.close(client), peer.close(origin)]);
      });
    },
  );

  test.serial(
    `${transport}: a reader that pauses for 5 s receives every byte, and no resource is left`,
    async (t) => {
      const peer = Peer.start(t);
      const nextPair = await crossing(t, peer, transport);
      await leavesNothing(t, async () => {
        const { a, b, client, origin } = await nextPair();
        const transfer = relay(a, b);
        const bytes = 64 * MiB;
        const reading = (async () => {
          await peer.read(origin, MiB);
          await peer.pause(origin, 5000);
          return peer.readToEnd(origin);
        })();
        const writing = peer.write(client, bytes, 1);
        await steady('the writer blocks', () => peer.counts(client).then(({ sent }) => sent), MiB);
        const blocked = transfer.traffic.tx;
        await sleep(1000);
        t.is(transfer.traffic.tx, blocked);
        await writing;
        await peer.shutdown(client);
        t.like(await reading, { bytes: bytes - MiB, end: 'eof' });
        t.is((await peer.counts(origin)).received, bytes);
        await peer.shutdown(origin);
        t.like(await transfer, { tx: bytes, rx: 0 });
        await Promise.all([peer.close(client), peer.close(origin)]);
      });
    },
  );

  test.serial(`${transport}: a relay of zero bytes ends cleanly when the origin ends first`, async (t) => {
    const peer = Peer.start(t);
    const nextPair = await crossing(t, peer, transport);
    await leavesNothing(t, async () => {
      const { a, b, client, origin } = await nextPair();
      const transfer = relay(a, b);
      await peer.shutdown(origin);
      t.like(await peer.readToEnd(client), { bytes: 0, end: 'eof' });
      await peer.shutdown(client);
      t.like(await peer.readToEnd(origin), { bytes: 0, end: 'eof' });
      t.like(await transfer, { tx: 0, rx: 0, zeroCopy: 0, error: null });
      await Promise.all([peer.close(client), peer.close(origin)]);
    });
  });
}

// Native only: Node does not poll a socket whose end of input it has read until it writes to that socket again.
nativeTest(
  'bytes for a destination that has closed fail the relay on the side of the destination',
  async (t) => {
    const peer = Peer.start(t);
    const nextPair = await crossing(t, peer, 'tcp');
    await leavesNothing(t, async () => {
      for (let round = 0; round < 20; round += 1) {
        const { a, b, client, origin } = await nextPair();
        const transfer = relay(a, b, { reject: false });
        await Promise.all([peer.writeText(client, 'read'), peer.readText(origin, 4)]);
        // A close with nothing unread sends a FIN. Only bytes written afterwards are answered with a reset.
        await peer.close(origin);
        t.is((await peer.readToEnd(client)).end, 'eof');
        await peer.writeText(client, 'accepted, and lost');
        const { tx, error } = await transfer;
        t.is(error?.code, 'ECONNRESET', `${error}`);
        t.is(error?.side, 'b');
        t.is(tx, 4 + 18);
        await peer.close(client);
      }
    });
  },
);

test.serial('a client that connects and resets before the relay begins leaves no resource', async (t) => {
  const peer = Peer.start(t);
  const { port } = await peer.listen({ port: 0, backlog: 64 });
  const nextPair = await crossing(t, peer, 'tcp');
  await leavesNothing(t, async () => {
    for (let round = 0; round < 20; round += 1) {
      const { a, b, client, origin } = await nextPair();
      b.destroy();
      a.on('error', () => undefined);
      await peer.reset(client);
      const { total, error } = await relay(a, connect(port, '127.0.0.1'), { reject: false });
      t.true(['ECONNRESET', 'ABORT_ERR', 'ERR_STREAM_DESTROYED'].includes(error?.code ?? ''), `${error}`);
      t.is(error?.side, 'a');
      t.is(total, 0);
      await peer.close(origin);
    }
  });
});
