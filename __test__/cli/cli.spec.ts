// `fdsplice relay` between real clients and servers: the bytes that pass through it, and the lines that it prints.
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import test from 'ava';

import { portOf, Relay } from '../helpers/cli/cli.js';
import {
  connect,
  dial,
  directory,
  echo,
  endingOf,
  exchange,
  nobody,
  sha256,
  silent,
} from '../helpers/local-peers.js';
import { tcpSockets } from '../helpers/tcp-table.js';
import { execFileAsync, testWithTool } from '../helpers/tools.js';
import { engine } from '../helpers/engine.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;

testWithTool('curl', 'curl downloads 32 MiB from an HTTP server through the relay', async (t) => {
  const body = randomBytes(32 * MiB);
  const sockets: Socket[] = [];
  const origin = http.createServer((_request, response) => response.end(body));
  origin.on('connection', (socket) => sockets.push(socket));
  origin.listen(0, '127.0.0.1');
  t.teardown(() => origin.close());
  await once(origin, 'listening');
  const { relay, port } = await Relay.onPort(t, `127.0.0.1:${(origin.address() as AddressInfo).port}`);

  const curl = spawn('curl', ['--silent', '--show-error', '--fail', `http://127.0.0.1:${port}/file`]);
  const hash = createHash('sha256');
  curl.stdout.on('data', (chunk: Buffer) => hash.update(chunk));
  const [errors] = await Promise.all([text(curl.stderr), once(curl, 'close')]);
  t.is(curl.exitCode, 0, errors);
  t.is(hash.digest('hex'), sha256(body));

  const connection = await relay.connection();
  t.like(connection, {
    tx: sockets[0]?.bytesRead,
    rx: sockets[0]?.bytesWritten,
    engine,
    error: null,
  });
  t.true(connection.rx > body.length);
});

for (const [direction, options] of [
  ['to the server', []],
  ['to the client', ['--reverse']],
] as const) {
  testWithTool('iperf3', `iperf3 sends 256 MiB ${direction} through the relay`, async (t) => {
    const serverPort = (await nobody(t)).split(':')[1] ?? '';
    const server = spawn('iperf3', [
      '--server',
      '--one-off',
      '--bind',
      '127.0.0.1',
      '--port',
      serverPort,
      '--forceflush',
    ]);
    t.teardown(() => server.kill());
    await once(server.stdout, 'data');
    const { relay, port } = await Relay.onPort(t, `127.0.0.1:${serverPort}`);

    const client = ['--client', '127.0.0.1', '--port', String(port), '--bytes', '256M', '--json', ...options];
    const { stdout } = await execFileAsync('iperf3', client, { maxBuffer: 16 * MiB });
    const { end, error } = JSON.parse(stdout) as IperfReport;
    t.is(error, undefined);
    t.true(end.sum_sent.bytes >= 256 * MiB);

    // iperf3 makes one connection for control and one for the data.
    const connections = [await relay.connection(0), await relay.connection(1)];
    const [tx, rx] = (['tx', 'rx'] as const).map((field) =>
      Math.max(...connections.map((connection) => connection[field])),
    );
    const moved = options.length === 0 ? tx : rx;
    t.true(moved !== undefined && moved >= end.sum_received.bytes, `${moved} of ${end.sum_received.bytes}`);
    // iperf3 counts until its client has sent the last byte, so bytes still in transit are missing.
    t.true(end.sum_received.bytes >= 128 * MiB, stdout);
  });
}

interface IperfReport {
  error?: string;
  end: { sum_sent: { bytes: number }; sum_received: { bytes: number } };
}

test('a relay listens on a Unix socket and connects to one', async (t) => {
  const folder = await directory(t);
  const [listen, target] = [join(folder, 'listen'), join(folder, 'target')];
  await echo(t, { path: target });
  const relay = new Relay(t, ['--json', `unix:${listen}`, `unix:${target}`]);
  t.deepEqual(await relay.event('listening'), { event: 'listening', address: `unix:${listen}` });

  const data = randomBytes(8 * MiB);
  const answer = await exchange(await connect(t, { path: listen }), data);
  t.is(sha256(answer), sha256(data));
  t.like(await relay.connection(), {
    client: `unix:${listen}`,
    target: `unix:${target}`,
    tx: data.length,
    rx: data.length,
    error: null,
  });
  t.is(await relay.stop(), 0);
  t.false(existsSync(listen), 'the socket file is removed at exit');
});

test('--json prints a listening line, a line for each connection, and a closed line with the totals', async (t) => {
  const target = await echo(t);
  const { relay, port } = await Relay.onPort(t, target);
  const locals: (number | undefined)[] = [];
  for (const size of [1, 100_000]) {
    const client = await connect(t, { port });
    locals.push(client.localPort);
    t.is((await exchange(client, Buffer.alloc(size))).length, size);
    await relay.connection(locals.length - 1);
  }
  t.is(await relay.stop(), 0);
  const lines = relay.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  const common = { event: 'connection', target, engine, error: null };
  t.deepEqual(
    lines.map(({ durationMs, ...rest }) =>
      rest['event'] === 'connection' ? { ...rest, timed: typeof durationMs } : rest,
    ),
    [
      { event: 'listening', address: `127.0.0.1:${port}` },
      { ...common, client: `127.0.0.1:${locals[0]}`, tx: 1, rx: 1, timed: 'number' },
      { ...common, client: `127.0.0.1:${locals[1]}`, tx: 100_000, rx: 100_000, timed: 'number' },
      { event: 'closed', connections: 2, failed: 0, refused: 0, tx: 100_001, rx: 100_001 },
    ],
  );
  t.is(relay.stderr, '');
});

test('the text lines show the listener, each connection and the totals', async (t) => {
  const target = await echo(t);
  const relay = new Relay(t, [':0', target]);
  const port = Number(/^listening on (?:\[::\]|0\.0\.0\.0):(\d+)$/.exec(await relay.line(/^listening/))?.[1]);
  const client = await connect(t, { port, host: '127.0.0.1' });
  const name = `127.0.0.1:${client.localPort}`;
  await exchange(client, Buffer.alloc(1_234_567));
  t.regex(await relay.line(/->/), new RegExp(`^${name} -> ${target}  tx 1\\.23 MB  rx 1\\.23 MB  \\d+ ms$`));
  t.is(await relay.stop(), 0);
  t.is(relay.lines.at(-1), 'closed  connections 1  failed 0  refused 0  tx 1.23 MB  rx 1.23 MB');
});

test('a target that refuses gives an error line with code and side, and resets the client', async (t) => {
  const target = await nobody(t);
  const { relay, port } = await Relay.onPort(t, target);
  t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
  const { error, tx, rx } = await relay.connection();
  t.like(error, { code: 'ECONNREFUSED', side: 'b' });
  t.regex(error?.message ?? '', /ECONNREFUSED/);
  t.deepEqual([tx, rx], [0, 0]);
  t.is(await relay.stop(), 0);
});

test('--quiet prints failures and nothing else', async (t) => {
  const folder = await directory(t);
  const [listen, target] = [join(folder, 'listen'), join(folder, 'target')];
  const relay = new Relay(t, ['--quiet', `unix:${listen}`, `unix:${target}`]);
  // A quiet relay does not print when it listens, so the test connects until a connect succeeds. The target is missing
  // then, so that connection is the one that fails.
  const tryOnce = () => connect(t, { path: listen }).then(Boolean, () => false);
  await until('the relay listens', tryOnce, Boolean);
  await relay.line(/ENOENT/);
  await echo(t, { path: target });
  t.is(String(await exchange(await connect(t, { path: listen }), 'hello')), 'hello');
  t.is(await relay.stop(), 0);
  t.is(relay.lines.length, 1);
  t.regex(
    relay.lines[0] ?? '',
    /^unix:\S+ -> unix:\S+ {2}tx 0 B {2}rx 0 B {2}\d+ ms {2}\S[^\n]*ENOENT[^\n]*$/,
  );
  t.is(relay.stderr, '');
});

test('control characters in log lines are escaped', async (t) => {
  const folder = await directory(t);
  const target = `unix:${folder}/\n\u001b[31m\u009b\u2028\u202e`;
  const relay = new Relay(t, ['127.0.0.1:0', target]);
  const port = Number(/\d+$/.exec(await relay.line(/^listening/))?.[0]);
  await endingOf(dial(t, { port }));
  await relay.line(/ENOENT/);
  t.is(await relay.stop(), 0);
  t.is(relay.lines.length, 3);
  t.true(
    relay.lines[1]?.includes(`unix:${folder}/\\u000a\\u001b[31m\\u009b\\u2028\\u202e  tx`),
    relay.lines[1],
  );

  const { relay: json, port: jsonPort } = await Relay.onPort(t, target);
  await endingOf(dial(t, { port: jsonPort }));
  t.is((await json.connection()).target, target);
  t.notRegex(json.lines.join(''), /[\p{Cc}\p{Cf}\p{Zl}]/u);
});

test('--max-connections resets and logs a connection beyond the limit', async (t) => {
  const { relay, port } = await Relay.onPort(t, await echo(t), ['--max-connections', '1']);
  const first = await connect(t, { port });
  first.write('x');
  await once(first, 'data');

  t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
  await relay.until('refusal', () => relay.stderr.includes('refused') || undefined);
  t.regex(relay.stderr, /^fdsplice: 127\.0\.0\.1:\d+ refused: --max-connections 1 is reached\n$/);

  await exchange(first, '');
  await relay.connection();
  t.is(String(await exchange(await connect(t, { port }), 'third')), 'third');
  t.is(await relay.stop(), 0);
  t.like(JSON.parse(relay.lines.at(-1) ?? ''), { event: 'closed', connections: 2, refused: 1 });
});

test('both sides of a relay have SO_KEEPALIVE set', async (t) => {
  const target = await silent(t);
  const { port } = await Relay.onPort(t, target);
  const { localPort } = await connect(t, { port });
  const targetPort = portOf(target);
  // No bytes are sent, because the retransmission timer would hide the keep-alive timer.
  const ends = await until(
    'a keep-alive timer on both sides',
    async () => {
      const sockets = (await tcpSockets()).filter(({ state }) => state === 'established');
      return {
        client: sockets.find((row) => row.localPort === port && row.remotePort === localPort)?.keepAliveTimer,
        target: sockets.find((row) => row.remotePort === targetPort)?.keepAliveTimer,
      };
    },
    ({ client, target }) => client === true && target === true,
  );
  t.deepEqual(ends, { client: true, target: true });
});
