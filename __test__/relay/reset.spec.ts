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

/** What a command of the peer fails with. */
function codeOf(command: Promise<unknown>): Promise<string | undefined> {
  return command.then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );
}

for (const who of ['client', 'origin'] as const) {
  const side = who === 'client' ? 'a' : 'b';
  const other = who === 'client' ? 'origin' : 'client';

  test.serial(
    `a reset by the ${who} ends the relay although the ${other} is idle, and resets the ${other}`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const seen = [watch(made.a), watch(made.b)];
      const transfer = relay(made.a, made.b);
      await peer.writeText(made[who], 'hello');
      t.is(await peer.readText(made[other], 5), 'hello');
      const ending = peer.readToEnd(made[other]);

      const start = performance.now();
      await peer.reset(made[who]);
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

  // Node does not watch a socket that it does not read from: it hears of a reset when it writes to it.
  nativeTest(
    `a reset by the ${who} ends the relay while its own bytes are blocked at the ${other}`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const transfer = relay(made.a, made.b);
      const writing = peer.write(made[who], GiB, 1);
      writing.catch(() => {});
      await steady('the writer blocks', async () => (await peer.counts(made[who])).sent);

      await peer.reset(made[who]);
      t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
      t.is((await peer.readToEnd(made[other])).end, 'reset');
      await t.throwsAsync(writing, { code: 'ECANCELED' });
    },
  );

  test.serial(`a reset by the ${who} ends the relay while bytes for it are blocked`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    const writing = codeOf(peer.write(made[other], GiB, 1));
    await steady('the writer blocks', async () => (await peer.counts(made[other])).sent);

    await peer.reset(made[who]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    // The kernel tells a reset once: to the blocked writer, who was there first.
    t.is(await writing, 'ECONNRESET');
  });

  test.serial(`a reset by the ${who} ends the relay while both directions are blocked`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    const [, writing] = [made[who], made[other]].map((conn) => codeOf(peer.write(conn, GiB, 1)));
    for (const conn of [made[who], made[other]]) {
      await steady('the writer blocks', async () => (await peer.counts(conn)).sent);
    }

    await peer.reset(made[who]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    t.is(await writing, 'ECONNRESET');
  });

  // The same once it has read the end.
  nativeTest(`a reset by the ${who} ends the relay after the ${who} had half-closed`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made[who]);
    t.like(await peer.readToEnd(made[other]), { end: 'eof' });
    await peer.reset(made[who]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    // To a peer that was told the end before, the kernel calls a reset a broken pipe.
    t.is(await codeOf(peer.write(made[other], 1, 1)), 'EPIPE');
  });

  test.serial(`a reset by the ${who} ends the relay after the ${other} had half-closed`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    await peer.shutdown(made[other]);
    t.like(await peer.readToEnd(made[who]), { end: 'eof' });
    await peer.reset(made[who]);
    t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    t.like(await peer.readToEnd(made[other]), { end: 'reset' });
  });

  for (const before of ['open', 'half-closed']) {
    // Where the end was read before, the kernel calls a reset a broken pipe, and Node says what the kernel says.
    const testIt = before === 'open' ? test.serial : nativeTest;
    testIt(
      `a reset by the ${who}, ${before} before, is told as a reset while bytes flow to it`,
      async (t: ExecutionContext) => {
        const peer = Peer.start(t);
        const meet = await crossing(t, peer, 'tcp');
        // Often: which call meets the reset, and in the middle of what, is a matter of chance.
        for (let round = 0; round < 100; round += 1) {
          const made = await meet();
          const transfer = relay(made.a, made.b);
          if (before === 'half-closed') {
            await peer.shutdown(made[who]);
          }
          const writing = codeOf(peer.write(made[other], GiB, round));
          await peer.read(made[who], 300_000 + 10_000 * round);
          await peer.reset(made[who]);
          t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
          t.regex((await writing) ?? '', /^(ECONNRESET|EPIPE)$/);
          await peer.close(made[other]);
        }
      },
    );
  }

  test.serial(`bytes that the ${who} sent before its reset arrive`, async (t) => {
    const peer = Peer.start(t);
    const made = await pair(t, peer);
    const transfer = relay(made.a, made.b);
    for (let round = 0; round < 5; round += 1) {
      await peer.write(made[who], 100_000, 5);
    }
    const moved = () => transfer.traffic.total;
    await until('the bytes are accepted', moved, (total) => total === 500_000);
    await peer.reset(made[who]);
    const ending = await peer.readToEnd(made[other]);
    t.deepEqual(ending, { bytes: 500_000, sha256: await peer.hash(5, 500_000), end: 'reset' });
    t.is((await failure(t, transfer)).traffic.total, 500_000);
  });

  test.serial(
    `4 MiB before a reset by the ${who} arrive at a slow reader within the second granted`,
    async (t) => {
      const peer = Peer.start(t);
      const made = await pair(t, peer);
      const transfer = relay(made.a, made.b);
      const bytes = 4 * MiB;
      const ending = peer.readToEnd(made[other], { chunk: 64 << 10, pauseMs: 10 });
      await peer.write(made[who], bytes, 6);
      await until(
        'the bytes are accepted',
        () => transfer.traffic.total,
        (total) => total === bytes,
      );
      const { received } = await peer.counts(made[other]);
      await peer.reset(made[who]);
      t.log(`${bytes - received} of ${bytes} bytes were on their way when the reset came`);
      t.deepEqual(await ending, { bytes, sha256: await peer.hash(6, bytes), end: 'reset' });
      t.like(await failure(t, transfer), { code: 'ECONNRESET', side });
    },
  );
}

test.serial('a reader that never reads delays the end after a reset by a second only', async (t) => {
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
  // Accepted by the kernel, and so counted, although the reset has taken the rest from the reader.
  t.like(error, { code: 'ECONNRESET', side: 'a' });
  t.is(error.traffic.tx, MiB);
  const ending = await peer.readToEnd(origin);
  t.is(ending.end, 'reset');
  t.true(ending.bytes <= MiB);
});

test.serial('with reject: false a reset is a result with an error in it', async (t) => {
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

test.serial('the failure reads as one line: what, on which side, after how many bytes', async (t) => {
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
