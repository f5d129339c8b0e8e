// What does not depend on the machine's speed: system calls, pipes, descriptors, and that nobody starves.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { coreTestWithTool } from './helpers/cli-tools.js';
import { coreTest as test } from './helpers/engine.js';
import { type Conn, Peer } from './helpers/peer.js';
import { RelayProcess } from './helpers/relay-process.js';
import { until } from './helpers/wait.js';

const MiB = 1024 * 1024;

/** Runs a relay under strace and gives the number of calls of each system call. */
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

coreTestWithTool('strace', 'a small round trip costs two receives and two sends, and no pipe', async (t) => {
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

coreTestWithTool('strace', 'a bulk MiB costs few calls, nearly all of them splices', async (t) => {
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

test.serial('200 idle relays hold no pipe and four descriptors each', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const before = relay.descriptors();
  for (let index = 0; index < 200; index += 1) {
    const { client, origin } = await relay.connect();
    await Promise.all([peer.write(client, 10, 1), peer.read(origin, 10)]);
  }
  t.like(await relay.stats(), { active: 200, pipes: { leased: 0 } });
  // A few more for what the core's threads need once they have started.
  t.true(relay.descriptors() - before <= 4 * 200 + 16, `${relay.descriptors() - before} descriptors`);
  await relay.end();
});

test.serial('readers that stall give their pipes back, and nothing they wait for is lost', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  // One after the other: connections made at once may be accepted in another order.
  const pairs: { client: Conn; origin: Conn }[] = [];
  for (let index = 0; index < 12; index += 1) pairs.push(await relay.connect());
  const sending = pairs.map(({ client }) =>
    peer.write(client, 24 * MiB, 1).then((digest) => peer.shutdown(client).then(() => digest)),
  );
  await until(
    'the relay has used pipes and given all back',
    () => relay.stats(),
    ({ pipes }) => pipes.created > 0 && pipes.leased === 0,
  );
  for (const [index, { origin }] of pairs.entries()) {
    const received = await peer.readToEnd(origin);
    t.like(received, { end: 'eof', bytes: 24 * MiB, sha256: (await sending[index])?.sha256 ?? '' });
  }
  await relay.end();
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

coreTestWithTool('prlimit', 'without descriptors for pipes, bulk goes through a buffer', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  const used = relay.descriptors();
  // Room for one relay's sockets and duplicates and for what the core's threads open, not for a pipe besides.
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

test.serial('messages pass beside bulk that never pauses', async (t) => {
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
    return times.sort((one, other) => one - other);
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
