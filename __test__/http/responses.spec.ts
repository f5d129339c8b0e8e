// sendFile into plain HTTP responses, read by real clients: length, ranges, methods without a body, pipelining, and a
// connection that stays usable.
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import http, { type IncomingMessage } from 'node:http';
import net from 'node:net';

import test from 'ava';
import { copy, sendFile, type TrafficResult } from 'fdsplice';

import { opened, sample, sha256 } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { until } from '../helpers/wait.js';
import { collect, get, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

test('a file is sent through the kernel with its length, and the connection stays usable', async (t) => {
  const { path, bytes } = sample(t, 3_000_000);
  const results: TrafficResult[] = [];
  const sockets = new Set<unknown>();
  const seen: string[] = [];
  const server = await site(t, (request, response) => {
    sockets.add(request.socket);
    response.on('finish', () => seen.push('finish')).on('close', () => seen.push('close'));
    void sendFile(path, response).then((result) => {
      t.true(response.writableFinished);
      results.push(result);
    });
  });
  for (let round = 0; round < 3; round += 1) {
    const { status, headers, body } = await get(server);
    t.is(status, 200);
    t.is(headers['content-length'], '3000000');
    t.is(headers['transfer-encoding'], undefined);
    t.is(sha256(body), sha256(bytes));
  }
  await until(
    'all results are in',
    () => results.length,
    (count) => count === 3,
  );
  for (const result of results) t.like(result, { tx: 3_000_000, rx: 0, engine, error: null });
  t.is(sockets.size, 1, 'one connection for all');
  await until(
    'all responses are closed',
    () => seen.length,
    (count) => count === 6,
  );
  t.deepEqual(seen, ['finish', 'close', 'finish', 'close', 'finish', 'close']);
});

for (const [range, options, from, to] of [
  ['a range', { start: 10, end: 99 }, 10, 100],
  ['a range beyond the end', { start: 9_000, end: 20_000 }, 9_000, 10_000],
  ['one byte', { start: 0, end: 0 }, 0, 1],
  ['an empty range after the end', { start: 20_000 }, 10_000, 10_000],
] as const) {
  test(`${range} is sent with its own length`, async (t) => {
    const { path, bytes } = sample(t, 10_000);
    const server = await site(t, (_request, response) => {
      response.statusCode = 206;
      void sendFile(path, response, options);
    });
    const { status, headers, body } = await get(server);
    t.is(status, 206);
    t.is(headers['content-length'], String(to - from));
    t.true(body.equals(bytes.subarray(from, to)));
  });
}

test('a number and a FileHandle are sent from their positions, and stay open', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const fd = opened(t, path);
  const handle = await open(path);
  t.teardown(() => handle.close());
  await handle.read(Buffer.alloc(100), 0, 100, null);
  const server = await site(t, ({ url }, response) => {
    void sendFile(url === '/number' ? fd : handle, response);
  });
  t.true((await get(server, { path: '/number' })).body.equals(bytes));
  t.true((await get(server, { path: '/handle' })).body.equals(bytes.subarray(100)));
  t.is((await handle.stat()).size, 1000);
});

test('an empty file and a procfs file of unknown size are sent', async (t) => {
  const { path } = sample(t, 0);
  const server = await site(t, ({ url }, response) => {
    void sendFile(url === '/empty' ? path : '/proc/version', response);
  });
  const { body, headers } = await get(server, { path: '/version' });
  t.regex(body.toString(), /^Linux version/);
  t.is(headers['content-length'], undefined);
  t.is((await get(server, { path: '/empty' })).body.length, 0);
});

for (const [kind, status, method] of [
  ['HEAD', 200, 'HEAD'],
  ['204', 204, 'GET'],
  ['304', 304, 'GET'],
] as const) {
  test(`a response to ${kind} has no body, and the connection stays usable`, async (t) => {
    const { path } = sample(t, 5000);
    const results: TrafficResult[] = [];
    const server = await site(t, (_request, response) => {
      response.statusCode = status;
      void sendFile(path, response).then((result) => results.push(result));
    });
    for (let round = 0; round < 2; round += 1) {
      const answer = await get(server, { method });
      t.is(answer.status, status);
      t.is(answer.body.length, 0);
      t.is(answer.headers['content-length'], method === 'HEAD' ? '5000' : undefined);
    }
    await until(
      'both results are in',
      () => results.length,
      (count) => count === 2,
    );
    for (const result of results) t.like(result, { tx: 0, error: null });
  });
}

test('pipelined responses wait their turn', async (t) => {
  const { path, bytes } = sample(t, 400_000);
  const order: string[] = [];
  const { port } = await site(t, ({ url }, response) => {
    // The second response is sent first.
    const send = () => void sendFile(path, response).then(() => order.push(String(url)));
    if (url === '/first') setTimeout(send, 50);
    else send();
  });
  const socket = net.connect(port, '127.0.0.1');
  socket.write(
    'GET /first HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  );
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const all = Buffer.concat(chunks);
  const bodies = [];
  for (let at = 0; at < all.length;) {
    const start = all.indexOf('\r\n\r\n', at) + 4;
    t.regex(all.subarray(at, start).toString(), /content-length: 400000/i);
    bodies.push(all.subarray(start, start + 400_000));
    at = start + 400_000;
  }
  t.is(bodies.length, 2);
  for (const body of bodies) t.true(body.equals(bytes));
  t.deepEqual(order, ['/first', '/second']);
});

test('Expect: 100-continue is answered before the file', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const server = await site(t, (_request, response) => void sendFile(path, response));
  const request = http.request({
    host: '127.0.0.1',
    ...server,
    method: 'POST',
    headers: { Expect: '100-continue' },
  });
  request.flushHeaders();
  // Both events may be emitted at once.
  const response = once(request, 'response');
  await once(request, 'continue');
  request.end('x');
  const [message] = (await response) as [IncomingMessage];
  t.true((await collect(message)).body.equals(bytes));
});

test('headers that were already sent and strictContentLength are accepted by the core', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const results: TrafficResult[] = [];
  const server = await site(t, ({ url }, response) => {
    response.strictContentLength = true;
    if (url === '/sent') response.writeHead(200, { 'content-length': 1000 });
    void sendFile(path, response).then((result) => results.push(result));
  });
  for (const path of ['/sent', '/unsent', '/sent']) {
    t.true((await get(server, { path })).body.equals(bytes));
  }
  await until(
    'all results are in',
    () => results.length,
    (count) => count === 3,
  );
  for (const result of results) t.is(result.engine, engine);
});

test('a socket is copied into a response, by the core if it has a Content-Length', async (t) => {
  const origin = net.createServer((socket) => socket.end('from the origin'));
  const originPort = await listening(t, origin);
  const results: TrafficResult[] = [];
  const server = await site(t, ({ url }, response) => {
    if (url === '/known') response.setHeader('Content-Length', 15);
    void copy(net.connect(originPort, '127.0.0.1'), response, { endDestination: true }).then((result) =>
      results.push(result),
    );
  });
  for (const path of ['/known', '/chunked', '/known']) {
    const { body, headers } = await get(server, { path });
    t.is(body.toString(), 'from the origin');
    t.is(headers['content-length'], path === '/known' ? '15' : undefined);
  }
  await until(
    'all results are in',
    () => results.length,
    (count) => count === 3,
  );
  t.deepEqual(
    results.map((result) => result.engine),
    [engine, 'stream', engine],
  );
});
