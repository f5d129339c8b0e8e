// Runs examples/metrics-gateway in a separate process and scrapes it over HTTP while traffic flows.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { portOf } from '../helpers/cli/cli.js';
import { connect, dial, echo, endingOf, exchange, nobody, serve, sha256 } from '../helpers/local-peers.js';
import { until } from '../helpers/wait.js';

const MAIN = fileURLToPath(new URL('../../examples/metrics-gateway/main.js', import.meta.url));
const MiB = 1 << 20;

interface Scrape {
  /** The time of the request. */
  at: number;
  value: (name: string, labels?: Record<string, string>) => number | undefined;
  names: string[];
}

/** Starts a gateway. Returns its port and a function that scrapes its metrics. */
async function start(t: ExecutionContext, target: string, ...options: string[]) {
  const anywhere = ['--listen', '127.0.0.1:0', '--metrics', '127.0.0.1:0'];
  const child = spawn(process.execPath, [MAIN, '--target', target, ...anywhere, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  createInterface(child.stdout).on('line', (line) => lines.push(line));
  await until(
    'both addresses',
    () => lines,
    ({ length }) => length === 2,
  );
  const after = (prefix: string) => lines.find((line) => line.startsWith(prefix))?.slice(prefix.length) ?? '';
  const url = after('metrics on ');
  return { child, port: portOf(after('gateway on ')), scrape: () => scrape(url) };
}

async function scrape(url: string): Promise<Scrape> {
  const at = performance.now();
  const response = await fetch(url);
  if (!response.ok || !response.headers.get('content-type')?.startsWith('text/plain; version=0.0.4')) {
    throw new Error(`${response.status} ${response.headers.get('content-type')}`);
  }
  const samples = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const values = new Map(
    samples.map((line) => [line.slice(0, line.lastIndexOf(' ')), line.split(' ').at(-1)]),
  );
  const value = (name: string, labels: Record<string, string> = {}) => {
    const pairs = Object.entries(labels).map(([label, its]) => `${label}="${its}"`);
    const found = values.get(pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`);
    return found === undefined ? undefined : Number(found);
  };
  return { at, value, names: [...values.keys()] };
}

test('counters grow between scrapes within the rate limit, and end at the final counts', async (t) => {
  const size = 2 * MiB;
  const { port, scrape } = await start(t, await echo(t), '--rate-limit', String(2 * MiB));
  const bytes = randomBytes(size);
  const startedAt = performance.now();
  const clients = [await connect(t, { port }), await connect(t, { port })] as const;
  const names = clients.map(({ localPort }) => `127.0.0.1:${localPort}`);
  const answers = clients.map((client) => exchange(client, bytes));
  const done = Promise.all(answers);

  const total = ({ value }: Scrape) =>
    (value('gateway_bytes_total', { direction: 'tx' }) ?? 0) +
    (value('gateway_bytes_total', { direction: 'rx' }) ?? 0);
  const scrapes: Scrape[] = [];
  while ((await Promise.race([done, sleep(100)])) === undefined) {
    scrapes.push(await scrape());
  }

  // Each client moves bytes for two seconds at the limit that both share.
  const flowing = scrapes.filter(({ value }) => value('gateway_connections') === 2);
  const totals = flowing.map(total);
  t.true(new Set(totals).size >= 5, String(totals));
  t.deepEqual(
    totals,
    totals.toSorted((a, b) => a - b),
  );
  for (const client of names) {
    const own = flowing.map(
      ({ value }) => value('gateway_connection_bytes_total', { client, direction: 'tx' }) ?? 0,
    );
    t.true(new Set(own).size >= 3, String(own));
    t.deepEqual(
      own,
      own.toSorted((a, b) => a - b),
    );
  }
  // One second more, for bytes counted between the request and its answer.
  for (const one of flowing) {
    const seconds = (one.at - startedAt) / 1000 + 1;
    t.true(total(one) <= 2 * MiB * seconds, `${total(one)} bytes in ${seconds} s`);
  }
  t.true(performance.now() - startedAt > 3000);

  for (const answer of await done) {
    t.is(sha256(answer), sha256(bytes));
  }
  const { value, names: left } = await until(
    'both connections have ended',
    scrape,
    (last) => last.value('gateway_connections') === 0,
  );
  t.is(value('gateway_bytes_total', { direction: 'tx' }), 2 * size);
  t.is(value('gateway_bytes_total', { direction: 'rx' }), 2 * size);
  t.is(value('gateway_connections_ended_total', { outcome: 'ok' }), 2);
  t.deepEqual(
    left.filter((name) => name.startsWith('gateway_connection_bytes_total')),
    [],
  );
});

test('the metrics of a connection have its exact byte counts so far', async (t) => {
  const { server, port: target } = await serve(t, (socket) => socket.pause());
  const connected = once(server, 'connection');
  const { port, scrape } = await start(t, `127.0.0.1:${target}`);
  const client = await connect(t, { port });
  const [origin] = (await connected) as [typeof client];
  const labels = { client: `127.0.0.1:${client.localPort}`, direction: 'rx' };
  for (const count of [1, 10_001, 30_001]) {
    origin.write(Buffer.alloc(count - client.bytesRead));
    client.resume();
    await until(
      'the bytes have arrived',
      () => client.bytesRead,
      (read) => read === count,
    );
    const { value } = await until(
      'the bytes are counted',
      scrape,
      (one) => one.value('gateway_connection_bytes_total', labels) === count,
    );
    t.is(value('gateway_bytes_total', { direction: 'rx' }), count);
    t.is(value('gateway_bytes_total', { direction: 'tx' }), 0);
  }
});

test('an idle connection is ended and counted as ERR_IDLE_TIMEOUT', async (t) => {
  const { port, scrape } = await start(t, await echo(t), '--idle-timeout', '1000');
  const client = await connect(t, { port });
  client.write('hello');
  await once(client, 'data');
  t.is(await endingOf(client), 'ECONNRESET');
  const { value } = await until(
    'the connection has ended',
    scrape,
    (one) => one.value('gateway_connections') === 0,
  );
  t.is(value('gateway_connections_ended_total', { outcome: 'ERR_IDLE_TIMEOUT' }), 1);
  t.is(value('gateway_bytes_total', { direction: 'tx' }), 5);
  t.is(value('gateway_bytes_total', { direction: 'rx' }), 5);
});

test('a target that refuses is counted as ECONNREFUSED, and the gateway still answers', async (t) => {
  const { port, scrape } = await start(t, await nobody(t));
  t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
  const refused = { outcome: 'ECONNREFUSED' };
  const { value } = await until(
    'the outcome is counted',
    scrape,
    (one) => one.value('gateway_connections_ended_total', refused) === 1,
  );
  t.is(value('gateway_connections'), 0);
});
