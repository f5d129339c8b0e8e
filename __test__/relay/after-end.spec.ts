// Peers that end their input and then close or reset: told apart from other failures by `afterEnd`, and no failure at all
// where nothing was left to deliver to them.
import { once } from 'node:events';
import { Duplex } from 'node:stream';

import test from 'ava';
import { copy, relay, type RelayEnd, stats } from 'fdsplice';

import { descriptorOf } from '../helpers/descriptors.js';
import { engine, isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, pair, type Pair, type Transport } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until, within } from '../helpers/wait.js';
import { all, duplexPair, session } from '../streams/ends.js';

nothingIsLeft(test, 'behind each test');

const GiB = 1 << 30;

/** How each kind of end is made from the sockets of a pair. */
const KINDS: Record<string, { transport: Transport; ends: (made: Pair) => [RelayEnd, RelayEnd] }> = {
  'sockets (TCP)': { transport: 'tcp', ends: ({ a, b }: Pair) => [a, b] },
  'sockets (Unix)': { transport: 'unix', ends: ({ a, b }: Pair) => [a, b] },
  'numbers (TCP)': { transport: 'tcp', ends: ({ a, b }: Pair) => [descriptorOf(a), descriptorOf(b)] },
  'numbers (Unix)': { transport: 'unix', ends: ({ a, b }: Pair) => [descriptorOf(a), descriptorOf(b)] },
  'a number and a Duplex': { transport: 'tcp', ends: ({ a, b }: Pair) => [descriptorOf(a), wrapped(b)] },
};

/** A stream of another class on top of a socket. Such a stream is never moved by its descriptor. */
function wrapped(socket: Duplex): Duplex {
  const stream = new Duplex({
    read: () => void socket.resume(),
    write: (chunk: Buffer, _encoding, done) => void socket.write(chunk, done),
    // Node has ended the socket itself if its input has ended.
    final: (done) => void (socket.writableFinished ? done() : socket.end(done)),
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk) => {
    if (!stream.push(chunk)) socket.pause();
  });
  socket.on('end', () => stream.push(null));
  socket.on('error', (error) => stream.destroy(error));
  return stream;
}

/** The options of a pair: numbers must be read by nobody else. */
const untouched = { untouched: true, server: { allowHalfOpen: true } };

for (const [kind, { transport, ends }] of Object.entries(KINDS)) {
  // Without the core there are no numbers.
  const engineTest = kind.includes('number') && !isNative ? test.skip : test.serial;
  const why = engineTest === test.skip ? ' (needs the native core)' : '';

  for (const role of ['client', 'origin'] as const) {
    const side = role === 'client' ? 'a' : 'b';
    const other = role === 'client' ? 'origin' : 'client';

    for (const departure of ['close', 'reset'] as const) {
      engineTest(
        `${kind}: a ${departure} by the ${role} after its end, while the ${other} sends, has afterEnd${why}`,
        async (t) => {
          const peer = Peer.start(t);
          const made = await pair(t, peer, transport, untouched);
          const { failed } = stats();
          const transfer = relay(...ends(made), { reject: false });
          await peer.writeText(made[role], 'question');
          await peer.shutdown(made[role]);
          t.like(await peer.readToEnd(made[other]), { bytes: 8, end: 'eof' });
          await peer[departure](made[role]);
          // The first bytes may be accepted before the departure is known.
          const writing = peer.write(made[other], GiB, 1).then(
            () => 'accepted',
            ({ code }: NodeJS.ErrnoException) => code,
          );

          const { error, ...counts } = await within(20_000, 'the relay ends', transfer);
          t.like(error, { side, afterEnd: true });
          t.regex(error?.code ?? '', /^(ECONNRESET|EPIPE)$/);
          t.regex(
            String(error),
            new RegExp(`\\(side ${side}, after the end of its input\\), after \\d+ bytes$`),
          );
          t.is(side === 'a' ? counts.tx : counts.rx, 8);
          t.true(stats().failed > failed);
          if (kind.includes('number')) made.a.destroy();
          if (kind.includes('number')) made.b.destroy();
          t.regex((await writing) ?? '', /^(ECONNRESET|EPIPE)$/, 'the other side is told');
        },
      );
    }

    // On streams, a loss may be known before the end of input is read. Then bytes may be missing, and the relay fails.
    const lossTest = kind.includes('Duplex') ? () => {} : engineTest;
    lossTest(
      `${kind}: a loss of the ${role} after both ends is no failure, and the end of its input is passed on${why}`,
      async (t) => {
        const peer = Peer.start(t);
        const made = await pair(t, peer, transport, untouched);
        await peer.writeText(made[role], 'question');
        await peer.shutdown(made[role]);
        await peer.shutdown(made[other]);
        await peer.reset(made[role]);

        const result = await within(20_000, 'the relay ends', relay(...ends(made)));
        const [tx, rx] = role === 'client' ? [8, 0] : [0, 8];
        t.like(result, { tx, rx, error: null });
        // The caller has not closed its numbers yet.
        t.like(await within(20_000, 'an end', peer.readToEnd(made[other])), { bytes: 8, end: 'eof' });
      },
    );

    engineTest(
      `${kind}: a reset by the ${role} without an end before it has no afterEnd${why}`,
      async (t) => {
        const peer = Peer.start(t);
        const nextPair = await crossing(t, peer, transport, untouched);
        // Many rounds, because chance decides which call sees the reset.
        for (let round = 0; round < 30; round += 1) {
          const made = await nextPair();
          const transfer = relay(...ends(made));
          const writing = peer.write(made[other], GiB, round).catch(() => {});
          await peer.writeText(made[role], 'question');
          await peer.read(made[role], 1 + 50_000 * (round % 10));
          await peer.reset(made[role]);
          t.like(await failure(t, transfer), { side, afterEnd: false });
          made.a.destroy();
          made.b.destroy();
          await writing;
          await peer.close(made[other]);
        }
      },
    );
  }
}

for (const role of ['client', 'origin'] as const) {
  const side = role === 'client' ? 'a' : 'b';
  const other = role === 'client' ? 'origin' : 'client';

  test.serial(
    `bytes that the relay holds for the ${role} that left are lost, and the ${other} is reset`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const transfer = relay(made.a, made.b);
      await peer.shutdown(made[role]);
      t.like(await peer.readToEnd(made[other]), { end: 'eof' });
      const writing = peer.write(made[other], GiB, 1);
      await steady('the writer blocks', async () => (await peer.counts(made[other])).sent);
      const { sent } = await peer.counts(made[other]);
      await peer.reset(made[role]);
      const error = await failure(t, transfer);
      t.like(error, { side, afterEnd: true });
      t.true(error.traffic.total < sent);
      // After an end of input, the kernel reports a reset as EPIPE.
      t.regex((await t.throwsAsync<NodeJS.ErrnoException>(writing)).code ?? '', /^(ECONNRESET|EPIPE)$/);
    },
  );

  test.serial(`bytes that the ${role} has not acknowledged stay counted when it leaves`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made[role]);
    await peer.write(made[other], 100_000, 1);
    await until(
      'the bytes are accepted',
      () => transfer.traffic.total,
      (total) => total === 100_000,
    );
    await peer.reset(made[role]);
    // On streams, a write has to find the reset.
    await peer.write(made[other], 1, 1).catch(() => {});
    const ending = failure(t, transfer);
    if (!isNative) await peer.write(made[other], 1, 1).catch(() => {});
    const error = await ending;
    t.like(error, { side, afterEnd: true });
    t.true(error.traffic.total >= 100_000);
  });

  test.serial(`a reset by the ${other} after the end of the ${role} has no afterEnd`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made[role]);
    t.like(await peer.readToEnd(made[other]), { end: 'eof' });
    await peer.reset(made[other]);
    t.like(await failure(t, transfer), {
      code: 'ECONNRESET',
      side: role === 'client' ? 'b' : 'a',
      afterEnd: false,
    });
  });
}

test.serial('an abort and a destroy() after an end have no afterEnd', async (t) => {
  const peer = Peer.start(t);
  const half = async () => {
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made.client);
    t.like(await peer.readToEnd(made.origin), { end: 'eof' });
    return { ...made, transfer };
  };
  const aborted = await half();
  aborted.transfer.abort();
  t.like(await failure(t, aborted.transfer), { code: 'ABORT_ERR', afterEnd: false });
  const destroyed = await half();
  destroyed.a.destroy();
  t.like(await failure(t, destroyed.transfer), { code: 'ABORT_ERR', side: 'a', afterEnd: false });
});

test.serial('a half-close timeout has no afterEnd', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  const transfer = relay(a, b, { halfCloseTimeout: 50 });
  await peer.shutdown(client);
  t.like(await failure(t, transfer), { code: 'ERR_HALF_CLOSE_TIMEOUT', side: 'b', afterEnd: false });
});

test.serial('bytes for a side that its owner has ended have no afterEnd', async (t) => {
  const peer = Peer.start(t);
  for (const transport of ['tcp', 'unix'] as const) {
    const { a, b, client, origin } = await pair(t, peer, transport, { server: { allowHalfOpen: true } });
    const transfer = relay(a, b);
    a.end();
    t.like(await peer.readToEnd(client), { end: 'eof' });
    await peer.shutdown(client);
    t.like(await peer.readToEnd(origin), { end: 'eof' });
    await peer.writeText(origin, 'more');
    t.like(await failure(t, transfer), { code: 'EPIPE', side: 'a', afterEnd: false }, transport);
  }
});

test.serial('errors of a copy have no afterEnd', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  const transfer = copy(a, b);
  await peer.reset(client);
  t.false('afterEnd' in (await failure(t, transfer)));
});

test.serial('a TLS client that ends its session and leaves has afterEnd', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { inner, outer } = await session(t);
  const transfer = relay(inner, b);
  outer.end('question');
  t.like(await peer.readToEnd(origin), { bytes: 8, end: 'eof' });
  outer.destroy();
  const writing = peer.write(origin, GiB, 1).catch(() => {});
  t.like(await failure(t, transfer), { side: 'a', afterEnd: true });
  await writing;
});

test.serial(
  'a write that fails with ECONNRESET shows that Node has reported a reset as an end',
  async (t) => {
    const peer = Peer.start(t);
    const { a, client } = await pair(t, peer);
    const [b, far] = duplexPair();
    const transfer = relay(a, b);
    await peer.writeText(client, 'part');
    await within(20_000, 'the bytes arrive', once(far, 'readable'));
    // As Node does when bytes and the reset behind them arrive at once.
    (a as unknown as { _handle: { readStop(): void } })._handle.readStop();
    a.push(null);
    t.is(String(await all(far)), 'part');
    await peer.reset(client);
    far.write('more');
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'a', afterEnd: false });
  },
);

test.serial(
  'a stream that ends and then fails with ECONNRESET has afterEnd, with another code not',
  async (t) => {
    for (const code of ['ECONNRESET', 'EPIPE', 'ENOSPC']) {
      const [[inner, outer], [second, far]] = [duplexPair(), duplexPair()];
      const transfer = relay(inner, second);
      outer.end('question');
      t.is(String(await all(far)), 'question');
      inner.destroy(Object.assign(new Error('on purpose'), { code, errno: -1, syscall: 'write' }));
      t.like(await failure(t, transfer), { code, side: 'a', afterEnd: code !== 'ENOSPC' });
    }
  },
);

test.serial('a stream that ends and then fails is no failure once the other has ended', async (t) => {
  const [[inner, outer], [second, far]] = [duplexPair(), duplexPair()];
  const [write] = [inner._final.bind(inner)];
  inner._final = (done) => {
    write(() => {});
    done(Object.assign(new Error('on purpose'), { code: 'ECONNRESET', errno: -104, syscall: 'shutdown' }));
  };
  const transfer = relay(inner, second);
  outer.end('question');
  t.is(String(await all(far)), 'question');
  far.end('answer');
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 8, rx: 6, engine: 'stream', error: null });
  t.is(engine, isNative ? 'native' : 'stream');
});
