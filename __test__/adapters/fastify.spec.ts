// The plugin for Fastify: the replies of @fastify/static, ranges within start and end, streams in replies, hooks, HEAD,
// simulated requests, HTTPS and HTTP/2.
import { once } from 'node:events';
import { createReadStream, readFileSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import fastifyStatic from '@fastify/static';
import { send } from '@fastify/send';
import test, { type ExecutionContext } from 'ava';
import { stats } from 'fdsplice';
import plugin, { sendStreams } from 'fdsplice/fastify';
import fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';

import { isNative, nativeTest } from '../helpers/engine.js';
import { identity, trust } from '../helpers/tls.js';
import { until, within } from '../helpers/wait.js';
import { fetchAnswer, oneConnection, publicFolder, SIZE } from './sites.js';

interface Site {
  app: FastifyInstance;
  /** The hooks that ran, and the payloads that `onSend` saw. */
  hooks: string[];
}

async function site(t: ExecutionContext, root: string, adapter: boolean): Promise<Site & { port: number }> {
  const app = fastify({ forceCloseConnections: true });
  const hooks: string[] = [];
  if (adapter) await app.register(plugin);
  app.addHook('onSend', async (_request, _reply, payload) => {
    hooks.push(`onSend ${(payload as object | null)?.constructor.name}`);
    return payload;
  });
  app.addHook('onResponse', async (_request, reply) => void hooks.push(`onResponse ${reply.statusCode}`));
  await app.register(fastifyStatic, { root, prefix: '/static/' });
  app.get('/file', (_request, reply) => reply.sendFile('big.bin'));
  app.get('/download', (_request, reply) => reply.download('big.bin', 'other name.bin'));
  app.get('/part', async (request, reply) => {
    const { statusCode, headers, stream } = await send(request.raw, '/big.bin', {
      root,
      start: 10,
      end: 700_009,
    });
    return reply.code(statusCode).headers(headers).send(stream);
  });
  app.get('/letters', async (request, reply) => {
    const { statusCode, headers, stream } = await send(request.raw, '/letters.txt', { root, start: 10 });
    return reply.code(statusCode).headers(headers).send(stream);
  });
  app.get('/chunked', (_request, reply) => reply.send(createReadStream(join(root, 'big.bin'))));
  app.get('/length', (_request, reply) =>
    reply.header('content-length', SIZE).send(createReadStream(join(root, 'big.bin'))),
  );
  app.get('/trailers', (_request, reply) => {
    reply.trailer('x-sum', (_reply, _payload, done) => done(null, 'sum'));
    return reply.send(createReadStream(join(root, 'big.bin')));
  });
  app.get('/missing', (_request, reply) =>
    reply.header('content-length', SIZE).send(createReadStream(join(root, 'no such file'))),
  );
  t.teardown(() => app.close());
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  return { app, hooks, port: Number(new URL(address).port) };
}

const REQUESTS: Record<string, number> = {
  '/file': SIZE,
  '/download': SIZE,
  '/part': 700_000,
  '/letters': 0,
  '/static/big.bin': SIZE,
  '/chunked': 0,
  '/length': SIZE,
  '/trailers': 0,
  '/missing': 0,
};

for (const [path, bytes] of Object.entries(REQUESTS)) {
  test.serial(`${path}: answers and hooks are the same with the plugin`, async (t) => {
    const root = publicFolder(t);
    writeFileSync(join(root, 'letters.txt'), '0123456789abcdefgh');
    const [own, ours] = [await site(t, root, false), await site(t, root, true)] as const;
    const agent = oneConnection(t);
    for (const options of [
      { path },
      { path, method: 'HEAD' },
      { path, headers: { Range: 'bytes=0-2' } },
      { path, headers: { Range: 'bytes=100-400099' } },
      { path, headers: { Range: 'bytes=9999999-' } },
    ]) {
      const before = stats().tx;
      const expected = await fetchAnswer(own.port, agent, options);
      t.is(stats().tx, before);
      t.deepEqual(await fetchAnswer(ours.port, agent, options), expected, JSON.stringify(options));
      // The bytes are counted before the response ends.
      if (options.method === undefined && options.headers === undefined) {
        t.is(stats().tx - before, isNative ? bytes : 0, path);
      }
    }
    for (const { hooks } of [own, ours]) {
      await until(
        'all hooks have run',
        () => hooks.filter((hook) => hook.startsWith('onResponse')).length,
        (ran) => ran === 5,
      );
    }
    t.deepEqual(ours.hooks, own.hooks);
  });
}

nativeTest('a range within start and end of @fastify/send has the right bytes', async (t) => {
  const root = publicFolder(t);
  const big = Buffer.alloc(SIZE, '0123456789');
  big.write('abc', 10);
  writeFileSync(join(root, 'big.bin'), big);
  const { port } = await site(t, root, true);
  for (const [range, expected] of [
    ['bytes=0-2', 'abc'],
    ['bytes=0-299999', big.toString('latin1', 10, 300_010)],
  ] as const) {
    const response = await fetch(`http://127.0.0.1:${port}/part`, { headers: { Range: range } });
    t.is(response.status, 206);
    t.true((await response.text()) === expected, range);
  }
});

test('the plugin covers routes of other plugins, and is exported by name', async (t) => {
  t.true(Object.is(plugin, sendStreams));
  const root = publicFolder(t);
  const app = fastify({ forceCloseConnections: true });
  await app.register(sendStreams);
  await app.register(async (child) => {
    await child.register(fastifyStatic, { root });
  });
  t.teardown(() => app.close());
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  const before = stats().tx;
  const body = Buffer.from(await (await fetch(`${address}/big.bin`)).arrayBuffer());
  t.true(body.equals(readFileSync(join(root, 'big.bin'))));
  t.is(stats().tx - before, isNative ? SIZE : 0);
});

test('a simulated request gets the same answer', async (t) => {
  const root = publicFolder(t);
  const [own, ours] = [await site(t, root, false), await site(t, root, true)] as const;
  for (const url of ['/file', '/part', '/length', '/missing']) {
    const [expected, found] = [await own.app.inject(url), await ours.app.inject(url)];
    t.is(found.statusCode, expected.statusCode);
    t.true(found.rawPayload.equals(expected.rawPayload), url);
  }
});

async function secure(t: ExecutionContext, root: string, options: FastifyServerOptions): Promise<number> {
  const app = fastify({ ...options, forceCloseConnections: true } as FastifyServerOptions);
  await app.register(plugin);
  await app.register(fastifyStatic, { root });
  t.teardown(() => app.close());
  return Number(new URL(await app.listen({ port: 0, host: '127.0.0.1' })).port);
}

test('HTTPS: the file arrives', async (t) => {
  const root = publicFolder(t);
  const port = await secure(t, root, { https: identity } as FastifyServerOptions);
  const request = https.get({ host: '127.0.0.1', port, path: '/big.bin', agent: false, ...trust });
  const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [NodeJS.ReadableStream];
  t.true((await buffer(message)).equals(readFileSync(join(root, 'big.bin'))));
});

test('HTTP/2: the file arrives', async (t) => {
  const root = publicFolder(t);
  const port = await secure(t, root, { http2: true } as FastifyServerOptions);
  const session = http2.connect(`http://127.0.0.1:${port}`);
  t.teardown(() => session.destroy());
  const body = await within(20_000, 'the body', buffer(session.request({ ':path': '/big.bin' })));
  t.true(body.equals(readFileSync(join(root, 'big.bin'))));
});
