// sendFile into HTTP responses, read by real clients.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { createGunzip, createGzip } from 'node:zlib';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type TrafficResult } from 'fdsplice';

import { opened, sample } from '../helpers/copy-files.js';
import { openDescriptors } from '../helpers/descriptors.js';
import { engine, isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

interface Site {
  port: number;
  agent: http.Agent;
}

async function listening(t: ExecutionContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A server, and an agent that has one connection to it at the most. */
async function site(t: ExecutionContext, handler: RequestListener, options = {}): Promise<Site> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  return { port: await listening(t, http.createServer(options, handler)), agent };
}

interface Answer {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

async function collect(message: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return { status: message.statusCode, headers: message.headers, body: Buffer.concat(chunks) };
}

async function get({ port, agent }: Site, options: http.RequestOptions = {}): Promise<Answer> {
  const request = http.request({ host: '127.0.0.1', port, agent, ...options }).end();
  const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
  return collect(message);
}

test('a file is sent through the kernel with its length, and the connection stays usable', async (t) => {
  const { path, bytes } = sample(t, 3_000_000);
  const results: TrafficResult[] = [];
  const sockets = new Set<unknown>();
  const seen: string[] = [];
  const place = await site(t, (request, response) => {
    sockets.add(request.socket);
    response.on('finish', () => seen.push('finish')).on('close', () => seen.push('close'));
    void sendFile(path, response).then((result) => {
      t.true(response.writableFinished);
      results.push(result);
    });
  });
  for (let round = 0; round < 3; round += 1) {
    const { status, headers, body } = await get(place);
    t.is(status, 200);
    t.is(headers['content-length'], '3000000');
    t.is(headers['transfer-encoding'], undefined);
    t.is(sha256(body), sha256(bytes));
  }
  await until(
    'all are told',
    () => results.length,
    (count) => count === 3,
  );
  for (const result of results) t.like(result, { tx: 3_000_000, rx: 0, engine, error: null });
  t.is(sockets.size, 1, 'one connection for all');
  await until(
    'all are closed',
    () => seen.length,
    (count) => count === 6,
  );
  t.deepEqual(seen, ['finish', 'close', 'finish', 'close', 'finish', 'close']);
});

for (const [what, options, from, to] of [
  ['a range', { start: 10, end: 99 }, 10, 100],
  ['a range beyond the end', { start: 9_000, end: 20_000 }, 9_000, 10_000],
  ['one byte', { start: 0, end: 0 }, 0, 1],
  ['nothing, from behind the end', { start: 20_000 }, 10_000, 10_000],
] as const) {
  test(`${what} is sent with its own length`, async (t) => {
    const { path, bytes } = sample(t, 10_000);
    const place = await site(t, (_request, response) => {
      response.statusCode = 206;
      void sendFile(path, response, options);
    });
    const { status, headers, body } = await get(place);
    t.is(status, 206);
    t.is(headers['content-length'], String(to - from));
    t.true(body.equals(bytes.subarray(from, to)));
  });
}

test('a number and a FileHandle are sent from where they stand, and stay open', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const fd = opened(t, path);
  const handle = await open(path);
  t.teardown(() => handle.close());
  await handle.read(Buffer.alloc(100), 0, 100, null);
  const place = await site(t, ({ url }, response) => {
    void sendFile(url === '/number' ? fd : handle, response);
  });
  t.true((await get(place, { path: '/number' })).body.equals(bytes));
  t.true((await get(place, { path: '/handle' })).body.equals(bytes.subarray(100)));
  t.is((await handle.stat()).size, 1000);
});

test('an empty file and one that does not know its size', async (t) => {
  const { path } = sample(t, 0);
  const place = await site(t, ({ url }, response) => {
    void sendFile(url === '/empty' ? path : '/proc/version', response);
  });
  const { body, headers } = await get(place, { path: '/version' });
  t.regex(body.toString(), /^Linux version/);
  t.is(headers['content-length'], undefined);
  t.is((await get(place, { path: '/empty' })).body.length, 0);
});

for (const [what, status, method] of [
  ['HEAD', 200, 'HEAD'],
  ['204', 204, 'GET'],
  ['304', 304, 'GET'],
] as const) {
  test(`a response to ${what} has no body, and the connection goes on`, async (t) => {
    const { path } = sample(t, 5000);
    const results: TrafficResult[] = [];
    const place = await site(t, (_request, response) => {
      response.statusCode = status;
      void sendFile(path, response).then((result) => results.push(result));
    });
    for (let round = 0; round < 2; round += 1) {
      const answer = await get(place, { method });
      t.is(answer.status, status);
      t.is(answer.body.length, 0);
      t.is(answer.headers['content-length'], method === 'HEAD' ? '5000' : undefined);
    }
    await until(
      'both are told',
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
    // The second one asks first.
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
  const place = await site(t, (_request, response) => void sendFile(path, response));
  const request = http.request({
    host: '127.0.0.1',
    ...place,
    method: 'POST',
    headers: { Expect: '100-continue' },
  });
  request.flushHeaders();
  // Both may come at once.
  const response = once(request, 'response');
  await once(request, 'continue');
  request.end('x');
  const [message] = (await response) as [IncomingMessage];
  t.true((await collect(message)).body.equals(bytes));
});

test('headers that were sent before, with their length, and strictContentLength', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const results: TrafficResult[] = [];
  const place = await site(t, ({ url }, response) => {
    response.strictContentLength = true;
    if (url === '/sent') response.writeHead(200, { 'content-length': 1000 });
    void sendFile(path, response).then((result) => results.push(result));
  });
  for (const path of ['/sent', '/unsent', '/sent']) {
    t.true((await get(place, { path })).body.equals(bytes));
  }
  await until(
    'all are told',
    () => results.length,
    (count) => count === 3,
  );
  for (const result of results) t.is(result.engine, engine);
});

/** Compresses what is written to a response, as middlewares do. */
function compress(response: ServerResponse): void {
  const gzip = createGzip();
  const [write, end] = [response.write.bind(response), response.end.bind(response)];
  response.setHeader('Content-Encoding', 'gzip');
  response.setHeader('Transfer-Encoding', 'chunked');
  gzip.on('data', (chunk: Buffer) => write(chunk)).on('end', () => end());
  response.write = ((...args: Parameters<typeof gzip.write>) => gzip.write(...args)) as typeof response.write;
  response.end = ((...args: []) => {
    gzip.end(...args);
    return response;
  }) as typeof response.end;
  gzip.on('drain', () => response.emit('drain'));
}

test('a chunked response and one that is compressed are framed as they are', async (t) => {
  const { path, bytes } = sample(t, 700_000);
  const results: TrafficResult[] = [];
  const place = await site(t, ({ url }, response) => {
    if (url === '/chunked') response.setHeader('Transfer-Encoding', 'chunked');
    else compress(response);
    void sendFile(path, response).then((result) => results.push(result));
  });
  const chunked = await get(place, { path: '/chunked' });
  t.is(chunked.headers['content-length'], undefined);
  t.true(chunked.body.equals(bytes));
  const compressed = await get(place, { path: '/compressed' });
  t.is(compressed.headers['content-encoding'], 'gzip');
  const gunzip = createGunzip();
  gunzip.end(compressed.body);
  const chunks: Buffer[] = [];
  for await (const chunk of gunzip) chunks.push(chunk as Buffer);
  t.true(Buffer.concat(chunks).equals(bytes));
  await until(
    'both are told',
    () => results.length,
    (count) => count === 2,
  );
  for (const result of results) t.like(result, { tx: 700_000, engine: 'stream', zeroCopy: 0 });
});

test('HTTPS responses never carry the file in plain', async (t) => {
  const { path, bytes } = sample(t, 500_000);
  let result: TrafficResult | undefined;
  const server = https.createServer(identity, (_request, response) => {
    void sendFile(path, response).then((sent) => (result = sent));
  });
  const port = await listening(t, server);
  // What is on the wire, seen by somebody in between.
  const wire: Buffer[] = [];
  const between = net.createServer((client) => {
    const origin = net.connect(port, '127.0.0.1');
    origin.on('data', (chunk: Buffer) => wire.push(chunk));
    client.pipe(origin).pipe(client);
    for (const socket of [client, origin]) socket.on('error', () => {});
    // A pipe whose end is gone leaves what it read from open.
    client.on('close', () => origin.destroy());
    origin.on('close', () => client.destroy());
  });
  const request = https.get({ port: await listening(t, between), host: '127.0.0.1', agent: false, ...trust });
  const [message] = (await once(request, 'response')) as [IncomingMessage];
  const { body, headers } = await collect(message);
  t.is(headers['content-length'], '500000');
  t.true(body.equals(bytes));
  await until('it is told', () => result, Boolean);
  t.like(result, { tx: 500_000, engine: 'stream' });
  t.is(Buffer.concat(wire).indexOf(bytes.subarray(1000, 1032)), -1);
});

test('HTTP/2 responses, several at once on one connection', async (t) => {
  const { path, bytes } = sample(t, 500_000);
  const results: TrafficResult[] = [];
  const server = http2.createSecureServer(identity, ({ method }, response) => {
    void sendFile(path, response).then((sent) => results.push(sent));
    t.truthy(method);
  });
  const session = http2.connect(`https://localhost:${await listening(t, server)}`, trust);
  t.teardown(() => session.destroy());
  const fetch = async (method: string) => {
    const stream = session.request({ ':method': method });
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    return { headers, body: Buffer.concat(chunks) };
  };
  const answers = await Promise.all(['GET', 'GET', 'HEAD'].map(fetch));
  for (const { headers } of answers) t.is(headers['content-length'], '500000');
  t.deepEqual(
    answers.map(({ body }) => body.length),
    [500_000, 500_000, 0],
  );
  for (const { body } of answers.slice(0, 2)) t.true(body.equals(bytes));
  await until(
    'all are told',
    () => results.length,
    (count) => count === 3,
  );
  t.deepEqual(results.map(({ tx }) => tx).sort(), [0, 500_000, 500_000]);
});

test('a Content-Length that is not the length of the range is a mistake, and the response stays as it was', async (t) => {
  const { path } = sample(t, 1000);
  const place = await site(t, (_request, response) => {
    response.setHeader('Content-Length', 999);
    sendFile(path, response).catch((error: NodeJS.ErrnoException) => {
      t.false(response.headersSent);
      response.removeHeader('Content-Length');
      response.writeHead(500).end(`${error.name} ${error.code} ${error.message}`);
    });
  });
  const { status, body } = await get(place);
  t.is(status, 500);
  t.regex(body.toString(), /^TypeError ERR_INVALID_ARG_VALUE "destination" .*999.*1000/);
});

test('a file that is missing leaves the response untouched', async (t) => {
  const place = await site(t, (_request, response) => {
    void sendFile('/missing/file', response, { reject: false }).then(({ error }) => {
      t.like(error, { code: 'ENOENT', side: 'source' });
      response.writeHead(404).end('not here');
    });
  });
  const { status, body } = await get(place);
  t.is(status, 404);
  t.is(body.toString(), 'not here');
});

/** Asks, takes some of the answer, and then waits. */
async function reluctant(t: ExecutionContext, { port }: Site): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'readable');
  socket.read(1000);
  return socket;
}

test('a file that gets shorter while it is sent breaks the response off', async (t) => {
  const { path } = sample(t, 30_000_000);
  const outcome = deferred<Error | null>();
  const place = await site(t, (_request, response) => {
    void sendFile(path, response, { reject: false }).then(({ error }) => outcome.resolve(error));
  });
  const socket = await reluctant(t, place);
  const fd = openSync(path, 'r+');
  ftruncateSync(fd, 100_000);
  closeSync(fd);
  let got = 0;
  socket.on('data', (chunk: Buffer) => (got += chunk.length));
  await within(20_000, 'the connection is closed', once(socket, 'close'));
  t.true(got < 30_000_000);
  t.like(await outcome.promise, { code: 'ERR_SOURCE_TRUNCATED', side: 'source' });
});

test('a file that gets shorter between the headers and the body breaks the response off', async (t) => {
  const { path } = sample(t, 100_000);
  const outcome = deferred<Error | null>();
  const place = await site(t, (_request, response) => {
    const flush = response.flushHeaders.bind(response);
    response.flushHeaders = () => {
      flush();
      truncateSync(path, 10_000);
    };
    void sendFile(path, response, { reject: false }).then(({ error }) => outcome.resolve(error));
  });
  // The stream engine has no call of its own for the headers: there it is one of the cases above.
  if (!isNative) {
    await get(place);
    t.is(await outcome.promise, null);
    return;
  }
  const error = await t.throwsAsync<NodeJS.ErrnoException>(get(place));
  t.is(error.code, 'ECONNRESET');
  t.like(await outcome.promise, { code: 'ERR_SOURCE_TRUNCATED', side: 'source' });
});

test('a client that goes away is a failure, and closes the file', async (t) => {
  const { path } = sample(t, 30_000_000);
  const outcome = deferred<Error | null>();
  const seen: string[] = [];
  const place = await site(t, (_request, response) => {
    response.on('finish', () => seen.push('finish')).on('close', () => seen.push('close'));
    void sendFile(path, response, { reject: false }).then(({ error }) => outcome.resolve(error));
  });
  const socket = await reluctant(t, place);
  socket.resetAndDestroy();
  const error = (await within(20_000, 'the transfer ends', outcome.promise)) as NodeJS.ErrnoException;
  t.true(['ECONNRESET', 'EPIPE', 'ABORT_ERR'].includes(error.code ?? ''), String(error));
  await until(
    'it is closed',
    () => seen,
    ({ length }) => length > 0,
  );
  t.deepEqual(seen, ['close']);
  await until(
    'the file is closed',
    () => [...openDescriptors().values()].filter((target) => target === path),
    ({ length }) => length === 0,
  );
});

for (const [when, endDestination] of [
  ['that it was to end', undefined],
  ['that it was not to end', false],
] as const) {
  test(`an abort in the middle of a response ${when}`, async (t) => {
    const { path } = sample(t, 30_000_000);
    const started = deferred<[ServerResponse, ReturnType<typeof sendFile>]>();
    const place = await site(t, (_request, response) => {
      started.resolve([response, sendFile(path, response, { endDestination })]);
    });
    const socket = await reluctant(t, place);
    const [response, transfer] = await started.promise;
    transfer.abort('enough');
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', cause: 'enough' });
    t.is(response.destroyed, endDestination !== false);
    response.destroy();
    socket.resume();
    await within(20_000, 'the connection is closed', once(socket, 'close'));
  });
}

test('a response in use is refused, and one that is destroyed is a result', async (t) => {
  const { path } = sample(t, 10);
  const done = deferred<void>();
  const { port } = await site(t, (_request, response) => {
    response.destroy();
    void (async () => {
      const { error } = await sendFile(path, response, { reject: false });
      t.like(error, { code: 'ERR_STREAM_DESTROYED', side: 'destination' });
      done.resolve();
    })();
  });
  const socket = net.connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
  socket.on('error', () => {});
  await within(20_000, 'it is told', done.promise);
});

test('a response that was ended before takes nothing, and its connection goes on', async (t) => {
  const { path } = sample(t, 10);
  const failures: unknown[] = [];
  const place = await site(t, (_request, response) => {
    response.end('0123456789');
    const transfers = [sendFile(path, response), copy(opened(t, path), response)];
    for (const transfer of transfers) transfer.catch((error: unknown) => failures.push(error));
  });
  for (let request = 0; request < 2; request += 1) t.is(String((await get(place)).body), '0123456789');
  await until(
    'all are told',
    () => failures.length,
    (count) => count === 4,
  );
  for (const error of failures) {
    t.like(error, { code: 'ERR_STREAM_WRITE_AFTER_END', side: 'destination', traffic: { total: 0 } });
  }
});

for (const method of ['GET', 'HEAD']) {
  test(`headers that Node refuses to send are a rejection, and the response to ${method} is still there`, async (t) => {
    const { path } = sample(t, 10);
    const refused = async (response: ServerResponse) => {
      response.setHeader('Trailer', 'X-Checksum');
      const code = 'ERR_HTTP_TRAILER_INVALID';
      await t.throwsAsync(within(5_000, 'a refusal', sendFile(path, response)), { code });
      t.false(response.headersSent);
      response.removeHeader('Trailer');
      response.statusCode = 500;
      response.end('sorry');
    };
    const place = await site(t, (_request, response) => void refused(response));
    t.is((await get(place, { method })).status, 500);
  });
}

test('a socket is copied into a response, through the kernel where its length is told', async (t) => {
  const origin = net.createServer((socket) => socket.end('from the origin'));
  const originPort = await listening(t, origin);
  const results: TrafficResult[] = [];
  const place = await site(t, ({ url }, response) => {
    if (url === '/told') response.setHeader('Content-Length', 15);
    void copy(net.connect(originPort, '127.0.0.1'), response, { endDestination: true }).then((result) =>
      results.push(result),
    );
  });
  for (const path of ['/told', '/chunked', '/told']) {
    const { body, headers } = await get(place, { path });
    t.is(body.toString(), 'from the origin');
    t.is(headers['content-length'], path === '/told' ? '15' : undefined);
  }
  await until(
    'all are told',
    () => results.length,
    (count) => count === 3,
  );
  t.deepEqual(
    results.map((result) => result.engine),
    [engine, 'stream', engine],
  );
});
