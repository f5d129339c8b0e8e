// Costs that do not depend on the speed of the machine: system calls, pipes and descriptors per relay, and fairness.
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { coreTestWithTool } from '../helpers/tools.js';
import { coreTest as test } from '../helpers/engine.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { AS_NOBODY, holdPipes } from '../helpers/quota.js';
import { RelayProcess } from '../helpers/processes/relay-process.js';
import { until } from '../helpers/wait.js';

const MiB = 1024 * 1024;

/** Runs a relay under strace. Returns a function that gives the number of calls of a system call. */
async function traced(
  t: ExecutionContext,
  work: (relay: RelayProcess, peer: Peer) => Promise<void>,
): Promise<(name: string) => number> {
  const directory = await mkdtemp(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const file = join(directory, 'calls');
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer, ['strace', '-f', '-c', '-U', 'name,calls', '-o', file]);
  await work(relay, peer);
  await relay.end();
  const counts = new Map<string, number>();
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    const [name = '', calls] = line.trim().split(/\s+/);
    counts.set(name, Number(calls));
  }
  return (name) => counts.get(name) ?? 0;
}

coreTestWithTool('strace', 'a small round trip costs two receives, two sends and no pipe', async (t) => {
  const ROUNDS = 1000;
  const calls = await traced(t, async (relay, peer) => {
    const { client, origin } = await relay.connect();
    for (let round = 0; round < ROUNDS; round += 1) {
      await Promise.all([peer.write(client, 64, 1), peer.read(origin, 64)]);
      await Promise.all([peer.write(origin, 64, 2), peer.read(client, 64)]);
    }
    const { pipes } = await relay.stats();
    t.deepEqual(pipes, { leased: 0, idle: 0, created: 0 });
  });
  const [receives, sends] = [calls('recvfrom') / ROUNDS, calls('sendto') / ROUNDS];
  t.log(`a round trip: ${receives} receives, ${sends} sends, ${calls('epoll_wait') / ROUNDS} epoll_waits`);
  t.true(receives >= 2 && receives < 2.05, `${receives} receives`);
  t.true(sends >= 2 && sends < 2.05, `${sends} sends`);
  t.is(calls('splice'), 0);
});

coreTestWithTool('strace', 'a MiB of bulk costs few system calls, nearly all of them splices', async (t) => {
  const SIZE = 256;
  const calls = await traced(t, async (relay, peer) => {
    const { client, origin } = await relay.connect();
    const [sent, received] = await Promise.all([
      peer.write(client, SIZE * MiB, 1).then((digest) => peer.shutdown(client).then(() => digest)),
      peer.readToEnd(origin),
    ]);
    t.like(received, { end: 'eof', bytes: SIZE * MiB, sha256: sent.sha256 });
    await peer.shutdown(origin);
  });
  const names = ['splice', 'recvfrom', 'sendto', 'epoll_wait', 'pipe2', 'fcntl'];
  t.log(names.map((name) => `${name} ${calls(name) / SIZE}`).join(', '), 'a MiB');
  t.true(calls('splice') / SIZE < 24, 'splices');
  t.true((calls('recvfrom') + calls('sendto')) / SIZE < 2, 'receives and sends');
});

coreTestWithTool(
  'strace',
  'a short connection costs two sends, four receives, two shutdowns and no pipe',
  async (t) => {
    const CONNECTIONS = 300;
    const calls = await traced(t, async (relay, peer) => {
      for (let index = 0; index < CONNECTIONS; index += 1) {
        const { client, origin } = await relay.connect();
        await Promise.all([peer.write(client, 100, 1), peer.read(origin, 100)]);
        await Promise.all([peer.write(origin, 100, 2), peer.read(client, 100)]);
        await Promise.all([peer.shutdown(client), peer.readToEnd(origin)]);
        await Promise.all([peer.shutdown(origin), peer.readToEnd(client)]);
        await Promise.all([peer.close(client), peer.close(origin)]);
      }
      t.like(await relay.stats(), { failed: 0, pipes: { leased: 0, idle: 0, created: 0 } });
    });
    const names = [
      'recvfrom',
      'sendto',
      'shutdown',
      'epoll_ctl',
      'epoll_wait',
      'fcntl',
      'setsockopt',
      'close',
    ];
    t.log(
      names.map((name) => `${name} ${(calls(name) / CONNECTIONS).toFixed(2)}`).join(', '),
      'a connection',
    );
    for (const [name, most] of [
      ['recvfrom', 4],
      ['sendto', 2],
      ['shutdown', 2],
      // No fstat, because the kind of a Node socket is known.
      ['fstat', 0],
      ['splice', 0],
    ] as const) {
      t.true(calls(name) / CONNECTIONS < most + 0.2, `${calls(name) / CONNECTIONS} × ${name}`);
    }
  },
);

test.serial('200 idle relays hold no pipe and four descriptors each', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const before = relay.descriptors();
  for (let index = 0; index < 200; index += 1) {
    const { client, origin } = await relay.connect();
    await Promise.all([peer.write(client, 10, 1), peer.read(origin, 10)]);
  }
  t.like(await relay.stats(), { active: 200, pipes: { leased: 0 } });
  // The threads of the core need a few more once they have started.
  t.true(relay.descriptors() - before <= 4 * 200 + 16, `${relay.descriptors() - before} descriptors`);
  await relay.end();
});

test.serial('stalled relays return their pipes, and lose no byte', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  // One after the other, because concurrent connections may be accepted in another order.
  const pairs: { client: Conn; origin: Conn }[] = [];
  for (let index = 0; index < 12; index += 1) pairs.push(await relay.connect());
  const sending = pairs.map(({ client }) =>
    peer.write(client, 24 * MiB, 1).then((digest) => peer.shutdown(client).then(() => digest)),
  );
  await until(
    'the relay has used pipes and returned all',
    () => relay.stats(),
    ({ pipes }) => pipes.created > 0 && pipes.leased === 0,
  );
  for (const [index, { origin }] of pairs.entries()) {
    const received = await peer.readToEnd(origin);
    t.like(received, { end: 'eof', bytes: 24 * MiB, sha256: (await sending[index])?.sha256 ?? '' });
  }
  await relay.end();
});

test.serial('stalled relays share one budget of memory, and lose no byte', async (t) => {
  const RELAYS = 60;
  const BYTES = 12 * MiB;
  // Bytes by which a direction may exceed the budget.
  const EXCESS = 32 * 1024;
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const pairs: { client: Conn; origin: Conn }[] = [];
  for (let index = 0; index < RELAYS; index += 1) pairs.push(await relay.connect());
  const sending = pairs.map(({ client }, index) =>
    peer.write(client, BYTES, index).then((digest) => peer.shutdown(client).then(() => digest)),
  );
  let [most, last, since] = [0, -1, performance.now()];
  await until(
    'all relays are stalled',
    () => relay.stats(),
    ({ held, tx }) => {
      t.true(held.bytes <= held.limit + RELAYS * EXCESS, JSON.stringify(held));
      most = Math.max(most, held.bytes);
      if (tx !== last) [last, since] = [tx, performance.now()];
      return held.bytes > 0 && performance.now() - since > 1000;
    },
  );
  t.log(`${(most / MiB).toFixed(1)} MiB held at most`);
  for (const [index, { origin }] of pairs.entries()) {
    const received = await peer.readToEnd(origin);
    t.like(received, { end: 'eof', bytes: BYTES, sha256: (await sending[index])?.sha256 ?? '' });
    await peer.shutdown(origin);
  }
  const { held, pipes } = await until(
    'all relays have ended',
    () => relay.stats(),
    ({ active }) => active === 0,
  );
  t.deepEqual([held.bytes, pipes.leased], [0, 0]);
  await relay.end();
});

test.serial('bulk with a pipeSize takes its pipes from the pool', async (t) => {
  const peer = Peer.start(t);
  // 100,000 is no size of the kernel, which makes 131,072 bytes of it.
  for (const pipeSize of [262_144, 100_000]) {
    const relay = await RelayProcess.start(t, peer, [], { relay: { pipeSize } });
    for (let round = 0; round < 2; round += 1) {
      const { client, origin } = await relay.connect();
      const sending = peer
        .write(client, 64 * MiB, 1)
        .then((digest) => peer.shutdown(client).then(() => digest));
      const received = await peer.readToEnd(origin);
      t.like(received, { end: 'eof', bytes: 64 * MiB, sha256: (await sending).sha256 });
      await peer.shutdown(origin);
    }
    const { pipes, total, zeroCopy } = await relay.stats();
    t.log(`${pipes.created} pipes made for ${total / MiB} MiB`);
    // One, unless another thread was about to use the idle one.
    t.true(pipes.created <= 4, `${pipes.created} pipes made`);
    t.true(zeroCopy > 0.9 * total, `${zeroCopy} of ${total} bytes spliced`);
    await relay.end();
  }
});

test.serial('idle pipes are closed after a while', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const { client, origin } = await relay.connect();
  await Promise.all([peer.write(client, 16 * MiB, 1), peer.read(origin, 16 * MiB)]);
  t.true((await relay.stats()).pipes.created > 0);
  await until(
    'no pipe is left',
    () => relay.stats(),
    ({ pipes }) => pipes.idle + pipes.leased === 0,
    60_000,
  );
  await relay.end();
});

coreTestWithTool('prlimit', 'bulk arrives if there are no descriptors for pipes', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const used = relay.descriptors();
  // Enough for the sockets and duplicates of one relay and for the threads of the core, but not for a pipe.
  relay.limitDescriptors(used + 10);
  const { client, origin } = await relay.connect();
  const [sent, received] = await Promise.all([
    peer.write(client, 32 * MiB, 1).then((digest) => peer.shutdown(client).then(() => digest)),
    peer.readToEnd(origin),
  ]);
  t.like(received, { end: 'eof', bytes: 32 * MiB, sha256: sent.sha256 });
  const { zeroCopy, tx } = await relay.stats();
  t.log(`${relay.descriptors()} descriptors of ${used + 10}; ${zeroCopy} of ${tx} bytes spliced`);
  t.is(tx, 32 * MiB);
  await relay.end();
});

test.serial('messages pass while bulk flows without a pause', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const talk = await relay.connect();
  const roundTrip = async () => {
    const started = performance.now();
    await Promise.all([peer.write(talk.client, 64, 1), peer.read(talk.origin, 64)]);
    await Promise.all([peer.write(talk.origin, 64, 2), peer.read(talk.client, 64)]);
    return performance.now() - started;
  };
  const measure = async () => {
    const times: number[] = [];
    for (let round = 0; round < 300; round += 1) times.push(await roundTrip());
    return times.sort((a, b) => a - b);
  };
  const alone = await measure();
  const bulk: { client: Conn; origin: Conn }[] = [];
  for (let index = 0; index < 4; index += 1) bulk.push(await relay.connect());
  let finished = false;
  const moving = Promise.all(
    bulk.map(async ({ client, origin }) => {
      const reading = peer.readToEnd(origin);
      while (!finished) await peer.write(client, 16 * MiB, 3);
      await peer.shutdown(client);
      t.is((await reading).end, 'eof');
    }),
  );
  const beside = await measure();
  finished = true;
  await moving;
  const p99 = (times: number[]) => times[Math.floor(times.length * 0.99)] ?? NaN;
  t.log(
    `p99 of 64-byte round trips: ${p99(alone).toFixed(2)} ms alone, ${p99(beside).toFixed(2)} ms beside bulk`,
  );
  t.true(p99(beside) < 5000);
  await relay.end();
});

/** Sizes that alternate between small messages and bulk, so that a direction changes its engine at every turn. */
function mixedSizes(seed: number): number[] {
  let state = seed;
  const below = (limit: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * limit);
  };
  const sizes: number[] = [];
  for (let turn = 0; turn < 12; turn += 1) {
    for (let message = 0; message < 12; message += 1) sizes.push(1 + below(message < 6 ? 200 : 9000));
    // Around the size at which both engines cost the same, and far above it.
    for (let part = 0; part < 4; part += 1) sizes.push(7000 + below(60_000));
    sizes.push(256 * 1024 + below(2 * MiB));
  }
  return sizes;
}

/** Sends the mix in both directions at once. Each message must arrive before the next one is sent. */
async function exchangeMix(t: ExecutionContext, relay: RelayProcess, peer: Peer): Promise<void> {
  const seed = Number(process.env['FDSPLICE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.log(`FDSPLICE_SEED=${seed}`);
  const { client, origin } = await relay.connect();
  const send = async (from: Conn, to: Conn, sizes: number[]) => {
    for (const [index, size] of sizes.entries()) {
      const [sent, received] = await Promise.all([peer.write(from, size, seed + index), peer.read(to, size)]);
      t.is(received.sha256, sent.sha256, `message ${index} of ${size} bytes`);
    }
    await peer.shutdown(from);
    t.like(await peer.readToEnd(to), { end: 'eof', bytes: 0 });
  };
  await Promise.all([
    send(client, origin, mixedSizes(seed)),
    send(origin, client, mixedSizes((seed * 7 + 1) % 2 ** 31)),
  ]);
}

test.serial('a mix of messages and bulk arrives in order across changes of the engine', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  await exchangeMix(t, relay, peer);
  const { total, zeroCopy } = await relay.stats();
  t.log(`${zeroCopy} of ${total} bytes spliced`);
  t.true(zeroCopy > 0 && zeroCopy < total);
  await relay.end();
});

coreTestWithTool(
  'prlimit',
  'a mix of messages and bulk arrives with the quota of pipe pages used up',
  async (t) => {
    await holdPipes(t, 1100);
    const peer = Peer.start(t);
    const relay = await RelayProcess.start(t, peer, AS_NOBODY);
    await exchangeMix(t, relay, peer);
    t.like(await relay.stats(), { zeroCopy: 0, failed: 0 });
    await relay.end();
  },
);

coreTestWithTool('prlimit', 'a mix of messages and bulk arrives without descriptors for pipes', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  relay.limitDescriptors(relay.descriptors() + 10);
  await exchangeMix(t, relay, peer);
  t.like(await relay.stats(), { failed: 0 });
  await relay.end();
});

coreTestWithTool(
  'setpriv',
  'the pipes of an unprivileged user stay within a quarter of the quota',
  async (t) => {
    const pages = Number(readFileSync('/proc/sys/fs/pipe-user-pages-soft', 'utf8'));
    const SMALLEST = 256 * 1024;
    const FLOWS = 48;
    const BYTES = 12 * MiB;
    const most = (pages * 4096) / 4 / SMALLEST;
    const peer = Peer.start(t);
    const relay = await RelayProcess.start(t, peer, AS_NOBODY);
    const before = relay.descriptors();
    const pairs: { client: Conn; origin: Conn }[] = [];
    for (let index = 0; index < FLOWS; index += 1) pairs.push(await relay.connect());
    const sending = pairs.map(({ client }, index) =>
      peer.write(client, BYTES, index).then((digest) => peer.shutdown(client).then(() => digest)),
    );
    // Stalled readers keep pipes full for a while. The number of leased pipes peaks then.
    let peak = 0;
    await until(
      'the relay has used pipes and returned all',
      () => relay.stats(),
      ({ pipes }) => {
        peak = Math.max(peak, pipes.leased + pipes.idle);
        return pipes.created > 0 && pipes.leased === 0;
      },
    );
    for (const [index, { origin }] of pairs.entries()) {
      const received = await peer.readToEnd(origin);
      t.like(received, { end: 'eof', bytes: BYTES, sha256: (await sending[index])?.sha256 ?? '' });
      await peer.shutdown(origin);
    }
    const { zeroCopy, total, pipes } = await relay.stats();
    const held = Math.max(peak, pipes.leased + pipes.idle);
    t.log(`${held} pipes at most, ${zeroCopy} of ${total} bytes spliced`);
    t.true(held > 0 && (pages === 0 || held <= most), `${held} pipes, ${most} allowed`);
    // The process really has the reported number of pipes.
    t.true(relay.descriptors() - before >= 2 * (await relay.stats()).pipes.idle);
    await relay.end();
  },
);
