// Relays between duplex streams that are not sockets: HTTP/2 streams and streams written in JavaScript. They show that the
// stream engine keeps the contract of a relay.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { Duplex } from 'node:stream';

import test from 'ava';
import { copy, relay, type TrafficResult } from 'fdsplice';

import { MiB, sha256 } from '../helpers/copy-files.js';
import { descriptorOf } from '../helpers/descriptors.js';
import { coreTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { identity, trust } from '../helpers/tls.js';
import { until, within } from '../helpers/wait.js';
import { all, duplexPair, listening, session } from './ends.js';

nothingIsLeft(test, 'behind all tests');

test('an HTTP/2 stream is relayed, and a failure resets that stream alone', async (t) => {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const server = http2.createSecureServer(identity);
  const results: TrafficResult[] = [];
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200 });
    void relay(stream, net.connect(port, '127.0.0.1'), { reject: false }).then((result) =>
      results.push(result),
    );
  });
  const client = http2.connect(`https://localhost:${await listening(t, server)}`, trust);
  t.teardown(() => client.destroy());
  const open = async () => {
    const stream = client.request({ ':method': 'POST' });
    const { conn } = await peer.accept(listener);
    return { stream, conn };
  };
  const good = await open();
  const received = all(good.stream);
  const bytes = randomBytes(MiB);
  good.stream.end(bytes);
  t.is((await peer.readToEnd(good.conn)).sha256, sha256(bytes));
  await peer.writeText(good.conn, 'answer');
  await peer.shutdown(good.conn);
  t.is((await received).toString(), 'answer');
  const bad = await open();
  const closed = once(bad.stream, 'close');
  bad.stream.on('error', () => {});
  await peer.reset(bad.conn);
  await within(20_000, 'the stream is reset', closed);
  t.not(bad.stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
  t.false(client.destroyed);
  await until(
    'both results are in',
    () => results.length,
    (count) => count === 2,
  );
  t.like(results[0], { tx: MiB, rx: 6, engine: 'stream', error: null });
  t.like(results[1]?.error, { code: 'ECONNRESET', side: 'b' });
});

test('any two duplex streams are relayed, and a failure destroys both with its error', async (t) => {
  const [client, a] = duplexPair();
  const [b, origin] = duplexPair();
  const transfer = relay(a, b);
  const bytes = randomBytes(MiB);
  const [there, back] = [all(origin), all(client)];
  client.end(bytes);
  origin.end('answer');
  t.is(sha256(await there), sha256(bytes));
  t.is((await back).toString(), 'answer');
  t.like(await transfer, { tx: MiB, rx: 6, engine: 'stream' });

  const [, c] = duplexPair();
  const [d] = duplexPair();
  let errors = 0;
  for (const stream of [c, d]) stream.on('error', () => (errors += 1));
  const failing = relay(c, d);
  failing.abort('enough');
  t.like(await failure(t, failing), { code: 'ABORT_ERR', cause: 'enough' });
  t.true(c.destroyed && d.destroyed);
  t.like(c.errored, { code: 'ABORT_ERR' });
  t.is(errors, 0, 'failures are in the result alone');
});

test('a write to a relayed stream fails the relay', async (t) => {
  const { inner } = await session(t);
  const [, b] = duplexPair();
  const transfer = relay(inner, b);
  const callback = new Promise<unknown>((resolve) => inner.write('intruder', resolve));
  t.like(await failure(t, transfer), { code: 'ERR_INVALID_STATE', side: 'a' });
  t.like(await callback, { code: 'ERR_INVALID_STATE' });
});

test('heads are sent first and counted', async (t) => {
  const [client, a] = duplexPair();
  const [b, origin] = duplexPair();
  const transfer = relay(a, b, { headFromA: Buffer.from('first '), headFromB: Buffer.from('early ') });
  const [there, back] = [all(origin), all(client)];
  client.end('second');
  origin.end('late');
  t.is((await there).toString(), 'first second');
  t.is((await back).toString(), 'early late');
  t.like(await transfer, { tx: 12, rx: 10 });
});

for (const [when, confirm] of [
  ['in the call', (done: () => void) => done()],
  ['in the next tick', (done: () => void) => process.nextTick(done)],
] as const) {
  test(`bytes that a stream confirms ${when} count, although an abort comes right behind them`, async (t) => {
    const [client, a] = duplexPair();
    const b = new Duplex({
      read() {},
      write(_chunk, _encoding, done) {
        confirm(done);
        transfer.abort();
      },
    });
    b.on('error', () => {});
    const transfer = relay(a, b);
    client.write('request');
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', traffic: { tx: 7 } });
  });
}

coreTest(
  'relays and copies of a number settle when they are aborted and the other end takes nothing',
  async (t) => {
    const peer = Peer.start(t);
    for (const kind of ['relay', 'copy'] as const) {
      const { a, client } = await pair(t, peer, 'tcp', { untouched: true });
      let held = false;
      const stalled = new Duplex({ highWaterMark: 1, read() {}, write: () => void (held = true) });
      stalled.on('error', () => {});
      const number = descriptorOf(a);
      const transfer = kind === 'relay' ? relay(number, stalled) : copy(number, stalled);
      await peer.write(client, MiB, 1);
      await until(
        'the stream holds bytes',
        () => held,
        (isHeld) => isHeld,
      );
      transfer.abort();
      const error = await within(20_000, 'the transfer settles', failure(t, transfer));
      t.like(error, { code: 'ABORT_ERR', traffic: { rx: 0 } });
      if (kind === 'copy') stalled.destroy();
    }
  },
);
