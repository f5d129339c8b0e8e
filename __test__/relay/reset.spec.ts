// Resets on either side of a relay, in every state of both directions: the relay fails at once on the side of the reset,
// the other side is reset too, and bytes sent before the reset are not lost.
import { constants } from 'node:os';

import test, { type ExecutionContext } from 'ava';
import { relay } from 'fdsplice';

import { engine, nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { crossing, pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until, within } from '../helpers/wait.js';
import { watch } from '../helpers/watch.js';

nothingIsLeft(test, 'behind each test');

const MiB = 1 << 20;
const GiB = 1 << 30;

/** The error code of a command of the peer. */
function codeOf(command: Promise<unknown>): Promise<string | undefined> {
  return command.then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );
}

for (const role of ['client', 'origin'] as const) {
  const side = role === 'client' ? 'a' : 'b';
  const other = role === 'client' ? 'origin' : 'client';

  test.serial(
    `a reset by the ${role} ends the relay while the ${other} is idle, and resets the ${other}`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const seen = [watch(made.a), watch(made.b)];
      const transfer = relay(made.a, made.b);
      await peer.writeText(made[role], 'hello');
      t.is(await peer.readText(made[other], 5), 'hello');
      const ending = peer.readToEnd(made[other]);

      const start = performance.now();
      await peer.reset(made[role]);
      const error = await failure(t, transfer);
      t.log(`ended ${Math.round(performance.now() - start)} ms after the reset`);

      t.like(error, { code: 'ECONNRESET', errno: -constants.errno.ECONNRESET, side });
      t.is(typeof error.syscall, 'string');
      t.is(error.traffic.total, 5);
      t.like(await within(5000, `the ${other} sees the end`, ending), { bytes: 0, end: 'reset' });
      await until('both are closed', () => seen.every(({ close }) => close === 1), Boolean);
      t.deepEqual(
        seen.map(({ error, end }) => ({ error, end })),
        Array(2).fill({ error: 0, end: 0 }),
      );
    },
  );

  // Native only: Node does not poll a socket it does not read from, and sees a reset at its next write.
  nativeTest(
    `a reset by the ${role} ends the relay while its own bytes are blocked at the ${other}`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const transfer = relay(made.a, made.b);
      const writing = peer.write(made[role], GiB, 1);
      writing.catch(() => {});
      await steady('the writer blocks', async () => (await peer.counts(made[role])).sent);

      await peer.reset(made[role]);
      t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
      t.is((await peer.readToEnd(made[other])).end, 'reset');
      await t.throwsAsync(writing, { code: 'ECANCELED' });
    },
  );

  test.serial(`a reset by the ${role} ends the relay while bytes to the ${role} are blocked`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    const writing = codeOf(peer.write(made[other], GiB, 1));
    await steady('the writer blocks', async () => (await peer.counts(made[other])).sent);

    await peer.reset(made[role]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    // The kernel reports a reset once: to the blocked writer, which waited first.
    t.is(await writing, 'ECONNRESET');
  });

  test.serial(`a reset by the ${role} ends the relay while both directions are blocked`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    const [, writing] = [made[role], made[other]].map((conn) => codeOf(peer.write(conn, GiB, 1)));
    for (const conn of [made[role], made[other]]) {
      await steady('the writer blocks', async () => (await peer.counts(conn)).sent);
    }

    await peer.reset(made[role]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    t.is(await writing, 'ECONNRESET');
  });

  // Native only: the same holds once Node has read the end of input.
  nativeTest(`a reset by the ${role} ends the relay after the ${role} had half-closed`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made[role]);
    t.like(await peer.readToEnd(made[other]), { end: 'eof' });
    await peer.reset(made[role]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    // After an end of input, the kernel reports a reset to the peer as EPIPE.
    t.is(await codeOf(peer.write(made[other], 1, 1)), 'EPIPE');
  });

  test.serial(`a reset by the ${role} ends the relay after the ${other} had half-closed`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made[other]);
    t.like(await peer.readToEnd(made[role]), { end: 'eof' });
    await peer.reset(made[role]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    t.like(await peer.readToEnd(made[other]), { end: 'reset' });
  });

  for (const state of ['open', 'half-closed']) {
    // After an end of input, the kernel reports a reset as EPIPE, and Node passes that on: native only.
    const testIt = state === 'open' ? test.serial : nativeTest;
    testIt(
      `a reset by the ${role}, ${state} before, is reported as a reset while bytes flow to it`,
      async (t: ExecutionContext) => {
        const peer = Peer.start(t);
        const nextPair = await crossing(t, peer, 'tcp');
        // Many rounds, because chance decides which call sees the reset.
        for (let round = 0; round < 100; round += 1) {
          const made = await nextPair();
          const transfer = relay(made.a, made.b);
          if (state === 'half-closed') {
            await peer.shutdown(made[role]);
          }
          const writing = codeOf(peer.write(made[other], GiB, round));
          await peer.read(made[role], 300_000 + 10_000 * round);
          await peer.reset(made[role]);
          t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
          t.regex((await writing) ?? '', /^(ECONNRESET|EPIPE)$/);
          await peer.close(made[other]);
        }
      },
    );
  }

  test.serial(`bytes sent by the ${role} before its reset arrive`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    for (let round = 0; round < 5; round += 1) {
      await peer.write(made[role], 100_000, 5);
    }
    const moved = () => transfer.traffic.total;
    await until('the bytes are accepted', moved, (total) => total === 500_000);
    await peer.reset(made[role]);
    const ending = await peer.readToEnd(made[other]);
    t.deepEqual(ending, { bytes: 500_000, sha256: await peer.hash(5, 500_000), end: 'reset' });
    t.is((await failure(t, transfer)).traffic.total, 500_000);
  });

  test.serial(
    `4 MiB sent before a reset by the ${role} reach a slow reader within the drain time of 1 s`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const transfer = relay(made.a, made.b);
      const bytes = 4 * MiB;
      const ending = peer.readToEnd(made[other], { chunk: 64 << 10, pauseMs: 10 });
      await peer.write(made[role], bytes, 6);
      await until(
        'the bytes are accepted',
        () => transfer.traffic.total,
        (total) => total === bytes,
      );
      const { received } = await peer.counts(made[other]);
      await peer.reset(made[role]);
      t.log(`${bytes - received} of ${bytes} bytes were on their way when the reset came`);
      t.deepEqual(await ending, { bytes, sha256: await peer.hash(6, bytes), end: 'reset' });
      t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    },
  );
}

test.serial('a reader that never reads delays the end after a reset by 1 s at most', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b);
  await peer.write(client, MiB, 1);
  await until(
    'the bytes are accepted',
    () => transfer.traffic.tx,
    (tx) => tx === MiB,
  );
  await peer.reset(client);
  const error = await failure(t, transfer);
  // The kernel had accepted these bytes, so they are counted, although the reset discards what the reader has not read.
  t.like(error, { code: 'ECONNRESET', side: 'a' });
  t.is(error.traffic.tx, MiB);
  const ending = await peer.readToEnd(origin);
  t.is(ending.end, 'reset');
  t.true(ending.bytes <= MiB);
});

test.serial('a reset with reject: false resolves with a result that holds the error', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b, { reject: false });
  await peer.writeText(client, 'hello');
  await peer.readText(origin, 5);
  await peer.reset(origin);
  const result = await within(5000, 'the relay ends', transfer);
  t.like(result, { tx: 5, rx: 0, total: 5, engine });
  t.like(result.error, {
    name: 'TransferError',
    code: 'ECONNRESET',
    side: 'b',
    traffic: { tx: 5, rx: 0, total: 5 },
  });
});

test.serial('the error as a string is one line: failure, side and byte count', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client, origin } = await pair(t, peer);
  const transfer = relay(a, b);
  await peer.write(client, 12_345, 1);
  await peer.read(origin, 12_345);
  await peer.reset(client);
  const line = String(await failure(t, transfer));
  t.notRegex(line, /\n/);
  t.regex(line, /ECONNRESET/);
  t.regex(line, /\ba\b/);
  t.regex(line, /12[,_ ]?345/);
});
