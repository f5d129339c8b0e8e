// Events around running transfers: a stopped peer, a stopped process, a stepped clock, a started child.
import { existsSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { testWithTool } from '../helpers/tools.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { RelayProcess } from '../helpers/processes/relay-process.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;

/** Relays bulk both ways and runs `meanwhile` while it flows. Asserts that every byte arrives and is counted. */
async function bulkAround(
  t: ExecutionContext,
  relay: RelayProcess,
  peer: Peer,
  meanwhile: () => Promise<void>,
): Promise<void> {
  const bytes = 96 * MiB + 1;
  const { client, origin } = await relay.connect();
  const readings = [peer.readToEnd(origin), peer.readToEnd(client)];
  const send = async (conn: Conn, seed: number) => {
    // Slow enough that `meanwhile` finishes first.
    const digest = await peer.write(conn, bytes, seed, { chunk: 256 << 10, pauseMs: 4 });
    await peer.shutdown(conn);
    return digest;
  };
  const writings = [send(client, 1), send(origin, 2)];
  await until(
    'bytes flow',
    () => relay.stats(),
    ({ total }) => total > MiB,
  );
  await meanwhile();
  const sent = await Promise.all(writings);
  t.deepEqual(
    await Promise.all(readings),
    sent.map((digest) => ({ ...digest, end: 'eof' })),
  );
  const endings = await until(
    'the relay has ended',
    () => relay.endings(),
    ({ length }) => length > 0,
  );
  t.deepEqual(endings, [{ tx: bytes, rx: bytes, total: 2 * bytes, code: null, side: null, syscall: null }]);
}

test.serial('a peer that is stopped amid bulk and continued gets every byte', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  await bulkAround(t, relay, peer, async () => {
    for (let round = 0; round < 3; round += 1) {
      peer.signal('SIGSTOP');
      await sleep(300);
      const { total } = await until(
        'nothing moves',
        async () => [await relay.stats(), await sleep(100, relay.stats())] as const,
        ([before, after]) => before.total === after.total,
      ).then(([stats]) => stats);
      peer.signal('SIGCONT');
      await until(
        'bytes move again',
        () => relay.stats(),
        (stats) => stats.total > total || stats.active === 0,
      );
    }
  });
  t.like(await relay.stats(), { active: 0, pipes: { leased: 0 } });
  await relay.end();
});

test.serial(
  'a relay that is stopped amid bulk for longer than its idle timeout continues afterwards',
  async (t) => {
    const peer = Peer.start(t);
    const relay = await RelayProcess.start(t, peer, [], {
      relay: { idleTimeout: 700, halfCloseTimeout: 60_000 },
    });
    await bulkAround(t, relay, peer, async () => {
      relay.signal('SIGSTOP');
      await sleep(1500);
      relay.signal('SIGCONT');
    });
    await relay.end();
  },
);

test.serial('children started while bulk flows inherit no descriptor', async (t) => {
  const peer = Peer.start(t);
  const relay = await RelayProcess.start(t, peer);
  await bulkAround(t, relay, peer, async () => {
    for (let child = 0; child < 20; child += 1) {
      const open = await relay.inherited();
      // Standard input, output and error, and the directory that the shell reads.
      t.true(open.length <= 4, open.join());
    }
    t.true((await relay.stats()).active === 1);
  });
  await relay.end();
});

const FAKETIME = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/faketime/libfaketime.so.1',
].find((path) => existsSync(path));

testWithTool(
  'faketime',
  'a clock that steps by a day in either direction neither ends a relay nor changes its rate',
  async (t) => {
    const peer = Peer.start(t);
    const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const clock = join(directory, 'clock');
    let steps = 0;
    const step = (offset: string) => {
      writeFileSync(clock, `${offset}\n`);
      utimesSync(clock, 1, (steps += 1));
    };
    step('+0');
    const rate = 200_000;
    const relay = await RelayProcess.start(t, peer, [], {
      // Only the wall clock is stepped, as an administrator or NTP does it. The monotonic clock stays.
      env: {
        LD_PRELOAD: FAKETIME ?? '',
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        DONT_FAKE_MONOTONIC: '1',
      },
      relay: { idleTimeout: 3000, rateLimit: rate },
    });
    const { client, origin } = await relay.connect();
    const started = performance.now();
    const writing = peer.write(client, rate * 3, 1);
    const reading = peer.read(origin, rate * 3);
    const seen: number[] = [];
    for (const offset of ['+1d', '-1d', '+0', '-400d', '+0']) {
      step(offset);
      await sleep(300);
      seen.push(Math.round(((await relay.date()) - Date.now()) / 86_400_000) + 0);
    }
    // The process really saw the stepped clock.
    t.deepEqual(seen, [1, -1, 0, -400, 0]);
    t.is((await reading).sha256, (await writing).sha256);
    // Bytes for 3 s less the burst: a step forward does not fill the bucket, and a step back does not stop it.
    const took = performance.now() - started;
    t.true(took > 2500, `${took} ms`);
    t.deepEqual(await relay.endings(), []);
    const idle = performance.now();
    step('-1d');
    const [ending] = await until(
      'the idle timeout ends the relay although the clock went back',
      () => relay.endings(),
      ({ length }) => length === 1,
    );
    t.like(ending, { code: 'ERR_IDLE_TIMEOUT', tx: rate * 3, rx: 0 });
    t.true(performance.now() - idle > 1500, `${performance.now() - idle} ms`);
    await relay.end();
  },
);
