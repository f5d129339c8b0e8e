// The limits of `fdsplice relay` on a connection, and the statistics that it prints while it runs.
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import { Relay, type StatsEvent } from '../helpers/cli/cli.js';
import { connect, dial, directory, echo, endingOf, exchange, serve, silent } from '../helpers/local-peers.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;

for (const [written, bytesPerSecond] of [
  ['1MiB', MiB],
  ['1048576', MiB],
  ['1.5MB', 1_500_000],
] as const) {
  test.serial(`--rate-limit ${written} limits both directions of a connection together`, async (t) => {
    const { relay, port } = await Relay.onPort(t, await echo(t), ['--rate-limit', written]);
    const size = 1.25 * bytesPerSecond;
    t.is((await exchange(await connect(t, { port }), Buffer.alloc(size))).length, size);
    const { tx, rx, durationMs, error } = await relay.connection();
    t.deepEqual({ tx, rx, error }, { tx: size, rx: size, error: null });
    // Without a limit this takes a few milliseconds. The upper bound rules out a standstill.
    t.true(durationMs > 2100 && durationMs < 15_000, `${durationMs} ms for 2.5 seconds' worth`);
    t.is(await relay.stop(), 0);
  });
}

test.serial('--idle-timeout ends an idle connection and no other', async (t) => {
  const { relay, port } = await Relay.onPort(t, await echo(t), ['--idle-timeout', '2s']);
  const [idle, busy] = [await connect(t, { port }), await connect(t, { port })];
  idle.write('x');
  await once(idle, 'data');
  const ending = endingOf(idle);
  for (let sent = 0; sent < 25; sent++) {
    busy.write('x');
    await Promise.all([once(busy, 'data'), sleep(100)]);
  }
  t.is(await ending, 'ECONNRESET');
  const { tx, rx, durationMs, error } = await relay.connection();
  t.deepEqual([tx, rx, error?.code, error?.side], [1, 1, 'ERR_IDLE_TIMEOUT', null]);
  t.true(durationMs >= 2000, `${durationMs} ms`);
  t.is(String(await exchange(busy, 'y')), 'y');
  t.like(await relay.connection(1), { tx: 26, rx: 26, error: null });
  t.is(await relay.stop(), 0);
});

test.serial('--half-close-timeout ends a connection with only one direction left', async (t) => {
  const { relay, port } = await Relay.onPort(t, await silent(t), ['--half-close-timeout', '1s']);
  const [open, half] = [await connect(t, { port }), dial(t, { port })];
  half.end('x');
  t.is(await endingOf(half), 'ECONNRESET');
  const { tx, durationMs, error } = await relay.connection();
  t.deepEqual([tx, error?.code, error?.side], [1, 'ERR_HALF_CLOSE_TIMEOUT', 'b']);
  t.true(durationMs >= 1000, `${durationMs} ms`);
  // The timeout does not apply to a connection with both directions open.
  t.is(open.closed, false);
  t.is(relay.events('connection').length, 1);
});

test.serial('--stats writes live counts while bytes flow', async (t) => {
  const { port: target } = await serve(t, (socket) => socket.resume().on('end', () => socket.end()));
  const options = ['--stats', '100ms', '--rate-limit', '1MiB'];
  const { relay, port } = await Relay.onPort(t, `127.0.0.1:${target}`, options);
  const client = await connect(t, { port });
  client.end(Buffer.alloc(MiB));
  await relay.connection();
  const last = relay.events('stats').length;
  const after = await relay.event<StatsEvent>('stats', last);

  const running = relay.events<StatsEvent>('stats').filter(({ active, tx }) => active === 1 && tx > 0);
  t.true(running.length >= 3, `${running.length} lines`);
  const counts = running.map(({ tx }) => tx);
  t.deepEqual(
    counts,
    counts.toSorted((a, b) => a - b),
  );
  t.true(new Set(counts).size >= 3, String(counts));
  t.like(after, { active: 0, connections: 1, tx: MiB, rx: 0 });
  t.deepEqual(Object.keys(after), ['event', 'active', 'connections', 'tx', 'rx', 'pipes']);
  t.deepEqual(Object.keys(after.pipes), ['leased', 'idle', 'created']);
  t.is(after.pipes.leased, 0);
  t.is(await relay.stop(), 0);
});

test.serial('--stats prints text lines, and nothing with --quiet', async (t) => {
  const target = await echo(t);
  const relay = new Relay(t, ['--stats', '50ms', '127.0.0.1:0', target]);
  await relay.line(/^stats {2}active 0 {2}connections 0 {2}tx 0 B {2}rx 0 B$/);
  const path = join(await directory(t), 'socket');
  const quiet = new Relay(t, ['--stats', '50ms', '--quiet', `unix:${path}`, target]);
  // A quiet relay does not print when it listens.
  const tryOnce = () =>
    connect(t, { path }).then(
      (socket) => Boolean(socket.destroy()),
      () => false,
    );
  await until('the relay listens', tryOnce, Boolean);
  // Long enough for the first relay to write several statistics lines.
  const written = relay.lines.length;
  await relay.until('more lines', () => (relay.lines.length > written + 10 ? true : undefined));
  t.is(await relay.stop(), 0);
  t.is(await quiet.stop(), 0);
  t.deepEqual(
    quiet.lines.filter((line) => line.startsWith('stats')),
    [],
  );
});
