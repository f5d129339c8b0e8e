// The file recipes of docs/recipes.md: the same requests to a server with and without sendFile must give the same answers,
// and the core must send the files.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { send as fastifySend } from '@fastify/send';
import test, { type ExecutionContext } from 'ava';
import express, { type RequestHandler } from 'express';
import fastify, { type RouteHandlerMethod } from 'fastify';
import send from 'send';
import { stats } from 'fdsplice';

import { directory, MiB, sha256 } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { recipe } from '../helpers/recipe.js';
import { within } from '../helpers/wait.js';

const SIZE = 10 * MiB + 1;

function root(t: ExecutionContext): string {
  const folder = join(directory(t), 'public');
  mkdirSync(join(folder, 'sub'), { recursive: true });
  writeFileSync(join(folder, 'big.bin'), randomBytes(SIZE));
  writeFileSync(join(folder, 'empty.txt'), '');
  writeFileSync(join(folder, 'sub', 'page.html'), '<p>hello');
  return folder;
}

interface Answer {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: string;
}

async function fetchAnswer(port: number, agent: http.Agent, options: http.RequestOptions): Promise<Answer> {
  const request = http.request({ host: '127.0.0.1', port, agent, ...options }).end();
  const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [http.IncomingMessage];
  const body = sha256(await within(20_000, 'the body', buffer(message)));
  const headers = { ...message.headers };
  delete headers.date;
  return { status: message.statusCode, headers, body };
}

/** Sends the same requests to both servers, each on one connection, and compares. Returns the bytes sent by transfers. */
async function compare(t: ExecutionContext, own: number, ours: number): Promise<number> {
  const agents = [own, ours].map(() => new http.Agent({ keepAlive: true, maxSockets: 1 })) as [
    http.Agent,
    http.Agent,
  ];
  t.teardown(() => agents.forEach((agent) => agent.destroy()));
  const { headers: known } = await fetchAnswer(own, agents[0], { path: '/big.bin', method: 'HEAD' });
  const before = stats().tx;
  for (const options of [
    { path: '/big.bin' },
    { path: '/big.bin', method: 'HEAD' },
    { path: '/big.bin', headers: { Range: 'bytes=5-1000004' } },
    { path: '/big.bin', headers: { Range: 'bytes=-1' } },
    { path: '/big.bin', headers: { Range: `bytes=${SIZE}-` } },
    { path: '/big.bin', headers: { Range: 'bytes=0-1,4-5' } },
    { path: '/big.bin', headers: { 'If-None-Match': known.etag } },
    { path: '/big.bin', headers: { 'If-Modified-Since': known['last-modified'] } },
    { path: '/big.bin', headers: { 'If-Match': '"other"' } },
    { path: '/big.bin', headers: { 'If-Range': '"other"', Range: 'bytes=0-9' } },
    { path: '/empty.txt' },
    { path: '/sub/page.html?query' },
    { path: '/missing' },
    { path: '/../secret' },
    { path: '/%2e%2e/secret' },
    { path: '/sub%00' },
  ]) {
    const expected = await fetchAnswer(own, agents[0], options);
    const found = await fetchAnswer(ours, agents[1], options);
    t.deepEqual(found, expected, JSON.stringify(options));
  }
  return stats().tx - before;
}

/** The bytes of all file bodies in the answers to the requests above. */
const SENT = 3 * SIZE + 1_000_000 + 1 + '<p>hello'.length;

test.serial('Express and send: every answer is the same, and the kernel sends the files', async (t) => {
  const { files } = await recipe<{ files: (root: string) => RequestHandler }>(t, 'Express and send');
  const folder = root(t);
  const site = async (handler: RequestHandler) => {
    const app = express();
    app.use(handler);
    const failed: express.ErrorRequestHandler = (error: { status?: number }, _request, response, _next) => {
      response.status(error.status ?? 500).end('failed');
    };
    app.use(failed);
    const server = app.listen(0, '127.0.0.1');
    t.teardown(() => void server.close());
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  };
  const own = await site((request, response, next) => {
    send(request, request.path, { root: folder }).on('error', next).pipe(response);
  });
  const sent = await compare(t, own, await site(files(folder)));
  t.is(sent, SENT, isNative ? 'by the core' : 'by streams');
});

test.serial('Fastify: every answer is the same, and the kernel sends the files', async (t) => {
  const { files } = await recipe<{ files: (root: string) => RouteHandlerMethod }>(t, 'Fastify');
  const folder = root(t);
  let responses = 0;
  const site = async (handler: RouteHandlerMethod) => {
    const app = fastify();
    app.addHook('onResponse', (_request, _reply, done) => {
      responses += 1;
      done();
    });
    app.get('/*', handler);
    t.teardown(() => app.close());
    await app.listen({ port: 0, host: '127.0.0.1' });
    return (app.server.address() as AddressInfo).port;
  };
  const own = await site(async (request, reply) => {
    const path = (request.raw.url ?? '/').replace(/\?.*/, '');
    const { statusCode, headers, stream } = await fastifySend(request.raw, path, { root: folder });
    return reply.code(statusCode).headers(headers).send(stream);
  });
  const sent = await compare(t, own, await site(files(folder)));
  t.is(sent, SENT, isNative ? 'by the core' : 'by streams');
  t.is(responses, 2 * 16 + 1);
});
