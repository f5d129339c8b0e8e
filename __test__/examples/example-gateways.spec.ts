// Runs examples/websocket-gateway and examples/load-balancer in separate processes, with real clients.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { WebSocket, WebSocketServer } from 'ws';

import { connect, dial, endingOf, exchange, nobody, serve } from '../helpers/local-peers.js';
import { Example } from '../helpers/example.js';
import { Peer } from '../helpers/peer.js';
import { unansweredPort } from '../helpers/unanswered.js';
import { until, within } from '../helpers/wait.js';

/** A WebSocket server that echoes. It sends its greeting in the same segment as its handshake. */
async function echoing(t: ExecutionContext, greeting?: string) {
  const requests: http.IncomingMessage[] = [];
  const server = http.createServer((_request, response) => response.writeHead(404).end('no socket here'));
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => {
    requests.push(request);
    if (request.url === '/refused') {
      const refusal =
        'HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n';
      socket.end(refusal);
      return;
    }
    socket.cork();
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on('message', (data, isBinary) => client.send(data as Buffer, { binary: isBinary }));
      if (greeting !== undefined) client.send(greeting);
      socket.uncork();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const client of sockets.clients) client.terminate();
    server.close();
  });
  return { target: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, sockets };
}

async function messageOf(socket: WebSocket): Promise<Buffer> {
  const [data] = (await within(20_000, 'a message', once(socket, 'message'))) as [Buffer];
  return data;
}

test('websocket-gateway: messages of every size pass both ways, and a close keeps its code and reason', async (t) => {
  const { target, requests } = await echoing(t, 'welcome');
  const { example, port } = await Example.listening(t, 'websocket-gateway/main.js', '--target', target);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/path?query=1`, ['chat'], {
    headers: { 'X-Forwarded-For': '10.0.0.1', 'X-Mine': 'yes' },
    perMessageDeflate: false,
  });
  t.is((await messageOf(socket)).toString(), 'welcome');
  t.is(socket.protocol, 'chat');
  const [request] = requests;
  t.is(request?.url, '/path?query=1');
  t.is(request?.headers['x-forwarded-for'], '10.0.0.1, 127.0.0.1');
  t.is(request?.headers['x-mine'], 'yes');
  let sent = 0;
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 3_000_000]) {
    const bytes = randomBytes(size);
    socket.send(bytes);
    sent += size;
    t.true(bytes.equals(await messageOf(socket)), `${size} bytes`);
  }
  socket.close(4321, 'enough');
  const [code, reason] = (await within(20_000, 'the socket closes', once(socket, 'close'))) as [
    number,
    Buffer,
  ];
  t.deepEqual([code, reason.toString()], [4321, 'enough']);
  const line = await example.line(/ bytes to the target/);
  const [, tx, rx] = /^\/path\?query=1: (\d+) bytes to the target, (\d+) back$/.exec(line)?.map(Number) ?? [];
  // The handshake counts, frames have headers, and each frame of a client has a mask of four bytes more.
  t.true(tx !== undefined && tx > sent && tx < sent + 1000, line);
  t.true(rx !== undefined && rx > sent + 'welcome'.length && rx < sent + 1000, line);
});

test('websocket-gateway: bytes that a client sends with its request are delivered first', async (t) => {
  const { target } = await echoing(t);
  const { port } = await Example.listening(t, 'websocket-gateway/main.js', '--target', target);
  const client = await connect(t, { port });
  const headers =
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==';
  // A text frame "hi", masked with zeros.
  const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
  client.write(Buffer.concat([Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n`), frame]));
  const chunks: Buffer[] = [];
  client.on('data', (chunk: Buffer) => chunks.push(chunk));
  const whole = await until(
    'the echo',
    () => Buffer.concat(chunks).toString('latin1'),
    (text) => text.endsWith('\x81\x02hi'),
  );
  t.regex(whole, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
});

test('websocket-gateway: a refusal is passed on, an unreachable target gives 502, a plain request gives 426', async (t) => {
  const { target } = await echoing(t);
  const { port } = await Example.listening(t, 'websocket-gateway/main.js', '--target', target);
  const answer = async (at: number, path: string) => {
    const socket = new WebSocket(`ws://127.0.0.1:${at}${path}`).on('error', () => undefined);
    const [, response] = (await within(20_000, 'an answer', once(socket, 'unexpected-response'))) as [
      unknown,
      http.IncomingMessage,
    ];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    return {
      status: response.statusCode,
      why: response.headers['x-why'],
      body: Buffer.concat(chunks).toString(),
    };
  };
  t.deepEqual(await answer(port, '/refused'), { status: 403, why: 'no', body: 'no' });
  t.is((await fetch(`http://127.0.0.1:${port}/`)).status, 426);
  const lost = await Example.listening(
    t,
    'websocket-gateway/main.js',
    '--target',
    `http://${await nobody(t)}`,
  );
  t.is((await answer(lost.port, '/')).status, 502);
});

test('websocket-gateway: a target that does not answer the connect gives 504', async (t) => {
  const silent = `http://127.0.0.1:${await unansweredPort(t, Peer.start(t))}`;
  const options = ['--target', silent, '--connect-timeout', '200'];
  const { example, port } = await Example.listening(t, 'websocket-gateway/main.js', ...options);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`).on('error', () => undefined);
  const [, response] = (await within(20_000, 'an answer', once(socket, 'unexpected-response'))) as [
    unknown,
    http.IncomingMessage,
  ];
  t.is(response.resume().statusCode, 504);
  t.regex(await example.line(/ETIMEDOUT/), /^\/: TransferError: connect to 127\.0\.0\.1:\d+ failed/);
});

test('websocket-gateway: a refused client cannot send the target another request', async (t) => {
  const requests: string[] = [];
  const server = http.createServer((request, response) => {
    requests.push(request.url ?? '');
    response.writeHead(403).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { port } = await Example.listening(t, 'websocket-gateway/main.js', '--target', target);
  const client = await connect(t, { port });
  client.write(
    'GET /one HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n',
  );
  client.write('GET /two HTTP/1.1\r\nHost: x\r\n\r\n');
  t.true(['end', 'ECONNRESET'].includes(await within(20_000, 'the target closes', endingOf(client))));
  t.deepEqual(requests, ['/one']);
});

test('websocket-gateway: an upgrade request with a body gives 501, even before the body arrives', async (t) => {
  const { target } = await echoing(t);
  const { port } = await Example.listening(t, 'websocket-gateway/main.js', '--target', target);
  for (const [framing, body] of [
    ['Content-Length: 4', 'body'],
    ['Content-Length: 4', ''],
    ['Transfer-Encoding: chunked', ''],
  ]) {
    const socket = net.connect(port, '127.0.0.1');
    socket.write(
      `POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n${framing}\r\n\r\n${body}`,
    );
    const [data] = (await within(20_000, 'an answer', once(socket, 'data'))) as [Buffer];
    t.regex(data.toString(), /^HTTP\/1\.1 501 /);
    socket.destroy();
  }
});

test('websocket-gateway: a lost client ends the target connection, and a lost target ends the client', async (t) => {
  const { target, sockets } = await echoing(t, 'welcome');
  const { example, port } = await Example.listening(t, 'websocket-gateway/main.js', '--target', target);
  const open = async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`).on('error', () => undefined);
    await messageOf(socket);
    return socket;
  };
  const first = await open();
  first.terminate();
  await until(
    'the target connection is closed',
    () => sockets.clients.size,
    (size) => size === 0,
  );
  const second = await open();
  const closed = once(second, 'close');
  for (const client of sockets.clients) client.terminate();
  t.is((await within(20_000, 'the client connection is closed', closed))[0], 1006);
  await example.line(/ bytes to the target/, 1);
  // No connection keeps the process alive any more.
  example.signal();
  t.is(await example.ended(), 0);
});

interface Origin {
  name: string;
  server: net.Server;
  sockets: Set<net.Socket>;
}

/** An origin that sends its name on each connection and then echoes. */
async function named(t: ExecutionContext, name: string): Promise<Origin> {
  const sockets = new Set<net.Socket>();
  const { server, port } = await serve(t, (socket) => {
    // A health check sends nothing, so it is not counted.
    socket.once('data', () => sockets.add(socket.on('close', () => sockets.delete(socket))));
    socket.write(name);
    socket.pipe(socket);
  });
  return { name: `127.0.0.1:${port}`, server, sockets };
}

async function greeted(t: ExecutionContext, port: number): Promise<{ client: net.Socket; by: string }> {
  const client = dial(t, { port });
  client.write('.');
  const [data] = (await within(20_000, 'a greeting', once(client, 'data'))) as [Buffer];
  return { client, by: data.toString().slice(0, 1) };
}

async function balanced(t: ExecutionContext, origins: string[], ...options: string[]) {
  const names = origins.flatMap((name) => ['--origin', name]);
  return Example.listening(t, 'load-balancer/main.js', ...names, '--check-interval', '200', ...options);
}

test('load-balancer: a connection goes to the origin with the fewest connections', async (t) => {
  const [a, b, c] = [await named(t, 'a'), await named(t, 'b'), await named(t, 'c')];
  const { example, port } = await balanced(t, [a.name, b.name, c.name]);
  const open: { client: net.Socket; by: string }[] = [];
  for (let i = 0; i < 9; i += 1) open.push(await greeted(t, port));
  t.is(open.map(({ by }) => by).join(''), 'abcabcabc');
  // Two connections of b end, so the next two go to b.
  for (const { client } of open.filter(({ by }) => by === 'b').slice(0, 2)) client.end().resume();
  await example.line(/ bytes up/, 1);
  const next = [await greeted(t, port), await greeted(t, port), await greeted(t, port)];
  t.is(next.map(({ by }) => by).join(''), 'bba');
});

test('load-balancer: an origin that is down is skipped at once, and is used again when it is up', async (t) => {
  const [a, b] = [await named(t, 'a'), await named(t, 'b')];
  const { example, port } = await balanced(t, [a.name, b.name]);
  const address = a.server.address() as AddressInfo;
  a.server.close();
  // A health check or the first connection finds it down. Either way no client is rejected.
  for (let i = 0; i < 4; i += 1) t.is((await greeted(t, port)).by, 'b');
  t.is(await example.line(/^origin .* is down/), `origin ${a.name} is down`);
  await serve(t, (socket) => socket.write('A'), { port: address.port, host: '127.0.0.1' });
  await example.line(/^origin .* is up/);
  t.is((await greeted(t, port)).by, 'A');
});

test('load-balancer: clients are reset while no origin is up', async (t) => {
  const gone = await nobody(t);
  const { example, port } = await balanced(t, [gone]);
  t.is(await within(20_000, 'the client is reset', endingOf(dial(t, { port }))), 'ECONNRESET');
  await example.line(/^no origin is up/);
  await serve(t, (socket) => socket.write('a'), { port: Number(gone.split(':')[1]), host: '127.0.0.1' });
  await example.line(/^origin .* is up/);
  t.is((await greeted(t, port)).by, 'a');
});

test('load-balancer: SIGTERM lets connections finish and accepts no more', async (t) => {
  const { name } = await named(t, 'a');
  const { example, port } = await balanced(t, [name]);
  const { client } = await greeted(t, port);
  example.signal();
  t.is(await example.line(/^draining/), 'draining 1 connections');
  t.is(await endingOf(dial(t, { port })), 'ECONNREFUSED');
  t.true((await exchange(client, 'the rest')).toString().endsWith('the rest'));
  t.is(await example.ended(), 0);
});

test('load-balancer: a connection that outlives the grace period is reset', async (t) => {
  const { name } = await named(t, 'a');
  const { example, port } = await balanced(t, [name], '--grace', '300');
  const { client } = await greeted(t, port);
  example.signal();
  t.is(await within(20_000, 'the client is reset', endingOf(client)), 'ECONNRESET');
  t.is(await example.ended(), 0);
});
