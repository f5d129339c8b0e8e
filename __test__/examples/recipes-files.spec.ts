// The file recipes of docs/recipes.md: the same requests to a server with and without the adapter must give the same answers,
// and the core must send the files.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import fastifyStatic from '@fastify/static';
import test, { type ExecutionContext } from 'ava';
import express from 'express';
import fastify, { type FastifyInstance } from 'fastify';
import send from 'send';
import serveStatic from 'serve-static';
import { stats } from 'fdsplice';

import { Koa, type KoaContext, koaSend } from '../adapters/koa.js';
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
    { path: '/big.bin', headers: { 'If-None-Match': known.etag ?? '"none"' } },
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

async function serve(t: ExecutionContext, server: http.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** The bytes of the bodies that an adapter sends: the large ones. */
const SENT = isNative ? 3 * SIZE + 1_000_000 : 0;

test.serial('Express: every answer is the same, and the core sends the large files', async (t) => {
  const { app } = await recipe<{ app: express.Express }>(t, 'Express');
  const folder = root(t);
  const [own, ours] = [express(), app].map((site) => http.createServer(site.use(express.static(folder)))) as [
    http.Server,
    http.Server,
  ];
  t.is(await compare(t, await serve(t, own), await serve(t, ours)), SENT);
});

test.serial('send: every answer is the same, and the core sends the large files', async (t) => {
  type Recipe = {
    answer: (request: http.IncomingMessage, response: http.ServerResponse, root: string) => void;
  };
  const { answer } = await recipe<Recipe>(t, 'send');
  const folder = root(t);
  const own = http.createServer((request, response) => {
    send(request, new URL(request.url ?? '/', 'http://localhost').pathname, { root: folder }).pipe(response);
  });
  const ours = http.createServer((request, response) => answer(request, response, folder));
  t.is(await compare(t, await serve(t, own), await serve(t, ours)), SENT);
});

test.serial('serve-static: every answer is the same, and the core sends the large files', async (t) => {
  const folder = root(t);
  const files = serveStatic(folder);
  const own = http.createServer((request, response) => {
    files(request, response, () => response.writeHead(404).end());
  });
  const parent = process.cwd();
  t.teardown(() => process.chdir(parent));
  // The folder of the recipe is relative.
  process.chdir(dirname(folder));
  const { server } = await recipe<{ server: http.Server }>(t, 'serve-static and sirv');
  t.is(await compare(t, await serve(t, own), await serve(t, server)), SENT);
});

test.serial('koa: every answer is the same, and the core sends the large files', async (t) => {
  type Recipe = { files: (context: KoaContext, next: () => Promise<void>) => Promise<void> };
  const { files } = await recipe<Recipe>(t, 'koa');
  const folder = root(t);
  const site = (isOurs: boolean) => {
    const app = new Koa();
    if (isOurs) app.use(files);
    app.use((context) => koaSend(context, context.path, { root: folder }));
    return http.createServer(app.callback());
  };
  const sent = await compare(t, await serve(t, site(false)), await serve(t, site(true)));
  // koa-send ignores ranges.
  t.is(sent, isNative ? 9 * SIZE : 0);
});

test.serial('Fastify: every answer is the same, and the core sends the large files', async (t) => {
  const { app } = await recipe<{ app: FastifyInstance }>(t, 'Fastify');
  const folder = root(t);
  let responses = 0;
  const site = async (instance: FastifyInstance) => {
    instance.addHook('onResponse', (_request, _reply, done) => {
      responses += 1;
      done();
    });
    await instance.register(fastifyStatic, { root: folder });
    t.teardown(() => instance.close());
    await instance.listen({ port: 0, host: '127.0.0.1' });
    return (instance.server.address() as AddressInfo).port;
  };
  t.is(await compare(t, await site(fastify()), await site(app)), SENT);
  t.is(responses, 2 * 16 + 1);
});
