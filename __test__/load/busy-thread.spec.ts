// A thread that is blocked for longer than a time limit. When it runs again, the timer fires before Node has read what
// arrived meanwhile; such bytes, ends and connects must still count as in time.
import net from 'node:net';

import test from 'ava';
import { relay } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const LIMIT = 2_000;

function busy(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LIMIT + 1_000);
}

test.serial('bytes that arrive while the thread is busy reset the idle timeout', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { idleTimeout: LIMIT });
  const bytes = 200;
  const reading = peer.readToEnd(origin);
  // The peer also writes while this thread is busy: the core's own threads are not, and would see an idle relay.
  const sent = peer.write(client, bytes, 1, { chunk: 1, pauseMs: 20 });
  busy();
  await sent;
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
  t.like(await within(20_000, 'the relay ends', transfer), { tx: bytes, rx: 0 });
  t.like(await reading, { bytes, end: 'eof' });
});

test.serial(
  'an end of input that arrives while the thread is busy is in time for the half-close timeout',
  async (t) => {
    const peer = Peer.start(t);
    const { a, b, client, origin } = await pair(t, peer);
    const transfer = relay(a, b, { halfCloseTimeout: LIMIT });
    const reading = peer.readToEnd(client);
    await peer.shutdown(client);
    t.like(await peer.readToEnd(origin), { bytes: 0, end: 'eof' });
    const ended = peer.shutdown(origin);
    busy();
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 0, rx: 0 });
    await ended;
    t.like(await reading, { bytes: 0, end: 'eof' });
  },
);

test.serial(
  'a connect that completes while the thread is busy is in time for the idle timeout',
  async (t) => {
    const peer = Peer.start(t);
    const { a, b: unused, client } = await pair(t, peer);
    unused.destroy();
    const { listener, port } = await peer.listen({ port: 0 });
    await peer.writeText(client, 'hello');
    const b = net.connect(port, '127.0.0.1');
    const transfer = relay(a, b, { idleTimeout: LIMIT });
    // Node starts the connect in the next tick.
    await new Promise<void>((resolve) =>
      process.nextTick(() => {
        busy();
        resolve();
      }),
    );
    const { conn: origin } = await peer.accept(listener);
    t.is(await peer.readText(origin, 5), 'hello');
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 5, rx: 0 });
  },
);

test.serial('the idle timeout fires on a thread that is always late', async (t) => {
  const peer = Peer.start(t);
  const { a, b } = await pair(t, peer);
  const transfer = relay(a, b, { idleTimeout: 200 });
  // Each check is late by more than the limit.
  const late = setInterval(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300), 1);
  t.teardown(() => clearInterval(late));
  t.like(await failure(t, transfer), { code: 'ERR_IDLE_TIMEOUT' });
});
