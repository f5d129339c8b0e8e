// Responses that Node encodes: chunked, compressed, HTTPS and HTTP/2. The file must go through the streams of the response,
// never to the descriptor below them.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { createGunzip, createGzip } from 'node:zlib';

import test from 'ava';
import { sendFile, type TrafficResult } from 'fdsplice';

import { sample } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity, trust } from '../helpers/tls.js';
import { until } from '../helpers/wait.js';
import { collect, get, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

/** Compresses the body of a response, as middlewares do. */
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

test('chunked and compressed responses keep their framing', async (t) => {
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
    'both results are in',
    () => results.length,
    (count) => count === 2,
  );
  for (const result of results) t.like(result, { tx: 700_000, engine: 'stream', zeroCopy: 0 });
});

test('HTTPS responses never carry the file in plain text', async (t) => {
  const { path, bytes } = sample(t, 500_000);
  let result: TrafficResult | undefined;
  const server = https.createServer(identity, (_request, response) => {
    void sendFile(path, response).then((sent) => (result = sent));
  });
  const port = await listening(t, server);
  // A proxy in between records the bytes on the wire.
  const wire: Buffer[] = [];
  const between = net.createServer((client) => {
    const origin = net.connect(port, '127.0.0.1');
    origin.on('data', (chunk: Buffer) => wire.push(chunk));
    client.pipe(origin).pipe(client);
    for (const socket of [client, origin]) socket.on('error', () => {});
    // pipe() does not destroy its source when the destination closes.
    client.on('close', () => origin.destroy());
    origin.on('close', () => client.destroy());
  });
  const request = https.get({ port: await listening(t, between), host: '127.0.0.1', agent: false, ...trust });
  const [message] = (await once(request, 'response')) as [IncomingMessage];
  const { body, headers } = await collect(message);
  t.is(headers['content-length'], '500000');
  t.true(body.equals(bytes));
  await until('the result is in', () => result, Boolean);
  t.like(result, { tx: 500_000, engine: 'stream' });
  t.is(Buffer.concat(wire).indexOf(bytes.subarray(1000, 1032)), -1);
});

test('several HTTP/2 responses are sent at once on one connection', async (t) => {
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
    'all results are in',
    () => results.length,
    (count) => count === 3,
  );
  t.deepEqual(results.map(({ tx }) => tx).sort(), [0, 500_000, 500_000]);
});
