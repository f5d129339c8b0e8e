// Runs examples/tcp-proxy, http-connect-proxy, tls-terminator and tracing in separate processes, with real clients.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';
import http, { type RequestListener } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import tls from 'node:tls';

import test, { type ExecutionContext } from 'ava';

import { connect, dial, echo, endingOf, exchange, nobody, serve, sha256 } from '../helpers/local-peers.js';
import { testWithTool } from '../helpers/tools.js';
import { curl } from '../helpers/curl.js';
import { engine } from '../helpers/engine.js';
import { Example } from '../helpers/example.js';
import { identity, trust } from '../helpers/tls.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;
const CERTIFICATE = fileURLToPath(new URL('../fixtures/localhost.crt', import.meta.url));
const KEY = fileURLToPath(new URL('../fixtures/localhost.key', import.meta.url));

async function listening(t: ExecutionContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function origin(t: ExecutionContext, answer: RequestListener): Promise<number> {
  const server = https.createServer(identity, answer);
  t.teardown(() => server.closeAllConnections());
  return listening(t, server);
}

test('tcp-proxy: bytes still flow back after the client has ended, and each connection is logged', async (t) => {
  const { example, port } = await Example.listening(t, 'tcp-proxy/main.js', '--target', await echo(t));
  const bytes = randomBytes(8 * MiB);
  const client = await connect(t, { port });
  const { localPort } = client;
  t.is(sha256(await exchange(client, bytes)), sha256(bytes));
  const line = await example.line(/ bytes to the target/);
  t.is(line, `127.0.0.1:${localPort}: ${8 * MiB} bytes to the target, ${8 * MiB} back`);
});

test('tcp-proxy: a target that refuses resets the client, and the log line has the reason', async (t) => {
  const { example, port } = await Example.listening(t, 'tcp-proxy/main.js', '--target', await nobody(t));
  t.is(await endingOf(dial(t, { port })), 'ECONNRESET');
  t.regex(await example.line(/ bytes to the target/), /: 0 bytes to the target, 0 back; .*ECONNREFUSED/);
});

/** Waits until the port accepts no connection any more. */
async function closed(t: ExecutionContext, port: number): Promise<void> {
  const attempt = async () => {
    const client = dial(t, { port });
    const accepted = await once(client, 'connect').then(
      () => true,
      () => false,
    );
    client.destroy();
    return accepted;
  };
  await until('the port accepts no connection any more', attempt, (accepted) => !accepted);
}

test('tcp-proxy: SIGTERM lets a connection finish, and then the process exits', async (t) => {
  const { example, port } = await Example.listening(t, 'tcp-proxy/main.js', '--target', await echo(t));
  const client = await connect(t, { port });
  const { localPort } = client;
  client.write('one');
  await once(client, 'data');
  example.signal();
  await closed(t, port);
  t.is((await exchange(client, 'two')).toString(), 'two');
  t.is(await example.ended(), 0);
  t.true(example.lines.at(-1)?.startsWith(`127.0.0.1:${localPort}: 6 bytes to the target, 6 back`));
});

test('tcp-proxy: a connection is reset after the grace period or at a second signal', async (t) => {
  const target = await echo(t);
  for (const [grace, signals] of [
    ['100', 1],
    ['600000', 2],
  ] as const) {
    const { example, port } = await Example.listening(
      t,
      'tcp-proxy/main.js',
      '--target',
      target,
      '--grace',
      grace,
    );
    const client = await connect(t, { port });
    client.write('one');
    await once(client, 'data');
    example.signal();
    if (signals > 1) {
      await closed(t, port);
      example.signal();
    }
    t.is(await within(20_000, 'the client is reset', endingOf(client)), 'ECONNRESET');
    t.is(await example.ended(), 0);
  }
});

testWithTool(
  'curl',
  'http-connect-proxy: curl fetches from an HTTPS origin through the tunnel',
  async (t) => {
    const bytes = randomBytes(5 * MiB);
    const received: Buffer[] = [];
    const port = await origin(t, (request, response) => {
      request.on('data', (chunk: Buffer) => received.push(chunk));
      request.on('end', () => response.end(bytes));
    });
    const proxy = await Example.listening(t, 'http-connect-proxy/main.js', '--allow-port', String(port));
    const through = ['--proxy', `http://127.0.0.1:${proxy.port}`, '--cacert', CERTIFICATE];
    const { exit, body, status } = await curl(
      ...through,
      '--data-binary',
      `@${KEY}`,
      `https://localhost:${port}/`,
    );
    t.deepEqual([exit, status, sha256(body)], [0, 200, sha256(bytes)]);
    t.is(Buffer.concat(received).toString(), identity.key);
    const line = await proxy.example.line(/ bytes to the origin/);
    const [, tx, rx] = /: (\d+) bytes to the origin, (\d+) back(?:;|$)/.exec(line)?.map(Number) ?? [];
    // The counts include TLS records. curl closes before the last record of the origin, which is then reset.
    t.true(tx !== undefined && tx > identity.key.length && tx < 10_000, line);
    t.true(rx !== undefined && rx > bytes.length && rx < bytes.length + 100_000, line);
  },
);

/** Sends CONNECT and `head` in one segment, ends, and returns all that comes back. */
async function tunnel(t: ExecutionContext, port: number, authority: string, head = ''): Promise<string> {
  const client = await connect(t, { port });
  client.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n${head}`);
  const chunks: Buffer[] = [];
  for await (const chunk of client.end()) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test('http-connect-proxy: bytes that a client sends with CONNECT reach the origin first', async (t) => {
  const target = await echo(t);
  const allow = ['--allow-port', target.split(':')[1] ?? ''];
  const { port } = await Example.listening(t, 'http-connect-proxy/main.js', ...allow);
  const answer = await tunnel(t, port, target, 'sent along');
  t.is(answer, 'HTTP/1.1 200 Connection Established\r\n\r\nsent along');
});

test('http-connect-proxy: each failed request gets its status code', async (t) => {
  const gone = await nobody(t);
  const silent = await backlogged(t);
  const allowed = [gone, silent].flatMap((name) => ['--allow-port', name.split(':')[1] ?? '']);
  const options = [...allowed, '--connect-timeout', '1500'];
  const { example, port } = await Example.listening(t, 'http-connect-proxy/main.js', ...options);
  t.regex(await tunnel(t, port, gone), /^HTTP\/1\.1 502 Bad Gateway\r\n/);
  t.regex(await example.line(/ECONNREFUSED/), new RegExp(`^${gone}: `));
  t.regex(await tunnel(t, port, silent), /^HTTP\/1\.1 504 Gateway Timeout\r\n/);
  t.regex(await tunnel(t, port, '127.0.0.1:1'), /^HTTP\/1\.1 403 Forbidden\r\n/);
  for (const wrong of ['127.0.0.1', 'user@127.0.0.1:443', '127.0.0.1:0', '127.0.0.1:99999', '/x:443']) {
    t.regex(await tunnel(t, port, wrong), /^HTTP\/1\.1 400 Bad Request\r\n/, wrong);
  }
  const [response] = (await once(http.get({ port, host: '127.0.0.1', path: '/' }), 'response')) as [
    http.IncomingMessage,
  ];
  t.is(response.resume().statusCode, 405);
});

test('http-connect-proxy: a client that hangs up during the connect to the origin causes no crash', async (t) => {
  const silent = await backlogged(t);
  const allow = ['--allow-port', silent.split(':')[1] ?? ''];
  const { example, port } = await Example.listening(t, 'http-connect-proxy/main.js', ...allow);
  const client = await connect(t, { port });
  client.write(`CONNECT ${silent} HTTP/1.1\r\nHost: ${silent}\r\n\r\n`);
  await until(
    'the proxy dials',
    () => (example.lines.length, client.bytesWritten),
    (written) => written > 0,
  );
  client.resetAndDestroy();
  example.signal();
  t.is(await example.ended(), 0);
});

/** An address that does not answer a connect: a listener with a full accept queue. */
async function backlogged(t: ExecutionContext): Promise<string> {
  const { Peer } = await import('../helpers/peer.js');
  const { port } = await Peer.start(t).listen({ port: 0, backlog: 0 });
  dial(t, { port });
  dial(t, { port });
  return `127.0.0.1:${port}`;
}

/** A proxy that records the bytes between a client and a server. */
async function wire(t: ExecutionContext, to: number): Promise<{ port: number; seen: () => Buffer }> {
  const chunks: Buffer[] = [];
  const { port } = await serve(t, (client) => {
    const server = net.connect({ port: to, allowHalfOpen: true }).on('error', () => client.resetAndDestroy());
    for (const socket of [client, server]) socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    client.pipe(server).pipe(client);
  });
  return { port, seen: () => Buffer.concat(chunks) };
}

/** Node passes this option on to the TCP socket, although its types lack it. */
const halfOpen: object = { allowHalfOpen: true };

const tlsOptions = ['--cert', CERTIFICATE, '--key', KEY];

test('tls-terminator: bytes arrive intact and counted, and never in plain text on the wire', async (t) => {
  const marker = 'in plain on the wire';
  const bytes = Buffer.concat([Buffer.from(marker.repeat(1000)), randomBytes(4 * MiB)]);
  const target = await echo(t);
  const { example, port } = await Example.listening(
    t,
    'tls-terminator/main.js',
    ...tlsOptions,
    '--target',
    target,
  );
  const { port: front, seen } = await wire(t, port);
  const client = tls.connect({ port: front, host: '127.0.0.1', ...halfOpen, ...trust });
  t.teardown(() => client.destroy());
  client.end(bytes);
  const chunks: Buffer[] = [];
  for await (const chunk of client) chunks.push(chunk as Buffer);
  t.is(sha256(Buffer.concat(chunks)), sha256(bytes));
  t.true(seen().length > 2 * bytes.length);
  t.false(seen().includes(marker));
  const line = await example.line(/ bytes to the target/);
  t.true(line.endsWith(`: ${bytes.length} bytes to the target, ${bytes.length} back, stream`), line);
});

testWithTool('curl', 'tls-terminator: curl fetches over HTTPS from an origin that uses HTTP', async (t) => {
  const bytes = randomBytes(3 * MiB);
  const plain = await listening(
    t,
    http.createServer((_request, response) => response.end(bytes)),
  );
  const target = ['--target', `127.0.0.1:${plain}`];
  const { port } = await Example.listening(t, 'tls-terminator/main.js', ...tlsOptions, ...target);
  const { exit, body } = await curl('--cacert', CERTIFICATE, `https://localhost:${port}/`);
  t.deepEqual([exit, sha256(body)], [0, sha256(bytes)]);
});

test('tls-terminator: a target that fails resets the client', async (t) => {
  const { port: target } = await serve(t, (socket) => {
    socket.write('half of it');
    socket.once('data', () => socket.resetAndDestroy());
  });
  const options = [...tlsOptions, '--target', `127.0.0.1:${target}`];
  const { example, port } = await Example.listening(t, 'tls-terminator/main.js', ...options);
  const client = tls.connect({ port, host: '127.0.0.1', ...trust });
  t.teardown(() => client.destroy());
  client.once('data', () => client.write('x'));
  t.is(await within(20_000, 'the client is reset', endingOf(client)), 'ECONNRESET');
  t.regex(await example.line(/ bytes to the target/), / 10 back, stream; .*ECONNRESET/);
});

test('tls-terminator: clients without TLS or without trust do not affect other clients', async (t) => {
  const target = await echo(t);
  const options = [...tlsOptions, '--target', target];
  const { example, port } = await Example.listening(t, 'tls-terminator/main.js', ...options);
  (await connect(t, { port })).end('GET / HTTP/1.0\r\n\r\n').resume();
  await example.line(/^no handshake: /);
  const distrustful = tls.connect({ port, host: '127.0.0.1' });
  await t.throwsAsync(once(distrustful, 'secureConnect'), { message: /self.signed/ });
  const client = tls.connect({ port, host: '127.0.0.1', ...halfOpen, ...trust });
  client.end('still there');
  const [answer] = (await once(client, 'data')) as [Buffer];
  t.is(answer.toString(), 'still there');
});

test(`tracing: every connection is a span, and its transfer is a span inside it (${engine})`, async (t) => {
  const target = await echo(t);
  const { example, port } = await Example.listening(t, 'tracing/main.js', '--target', target);
  const began = Date.now();
  const bytes = randomBytes(2 * MiB);
  const client = await connect(t, { port });
  const { localPort } = client;
  t.is(sha256(await exchange(client, bytes)), sha256(bytes));
  const [inner, outer] = [
    span(await example.line(/^\{"name":"fdsplice\.relay"/)),
    span(await example.line(/^\{"name":"connection"/)),
  ];
  t.is(inner.traceId, outer.traceId);
  t.is(inner.parentSpanId, outer.spanId);
  t.regex(inner.traceId, /^[0-9a-f]{32}$/);
  t.regex(inner.spanId, /^[0-9a-f]{16}$/);
  t.deepEqual(inner.status, { code: 1 });
  t.is(outer.attributes['network.peer.port'], localPort);
  const { 'fdsplice.zero_copy': zeroCopy, ...counts } = inner.attributes;
  const size = bytes.length;
  t.deepEqual(counts, {
    'fdsplice.kind': 'relay',
    'fdsplice.tx': size,
    'fdsplice.rx': size,
    'fdsplice.engine': engine,
  });
  t.true(Number(zeroCopy) >= 0 && Number(zeroCopy) <= 2 * size);
  const [start, end] = [inner.startTimeUnixNano, inner.endTimeUnixNano].map((nanos) => Number(nanos) / 1e6);
  t.true(
    start !== undefined && end !== undefined && began - 1 <= start && start < end && end <= Date.now() + 1,
  );
});

test('tracing: the span of a failed transfer has the error and the counts', async (t) => {
  const { port: target } = await serve(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
  const { example, port } = await Example.listening(t, 'tracing/main.js', '--target', `127.0.0.1:${target}`);
  const client = await connect(t, { port });
  client.write('hello');
  t.is(await within(20_000, 'the client is reset', endingOf(client)), 'ECONNRESET');
  const { attributes, status } = span(await example.line(/^\{"name":"fdsplice\.relay"/));
  t.is(attributes['fdsplice.tx'], 5);
  t.is(attributes['error.type'], 'ECONNRESET');
  t.is(status.code, 2);
  t.regex(status.message ?? '', /after 5 bytes/);
  t.is(span(await example.line(/^\{"name":"connection"/)).status.code, 2);
});

interface Span {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Record<string, string | number>;
  status: { code: number; message?: string };
}

const span = (line: string) => JSON.parse(line) as Span;
