// Files that change, disappear or shrink, and clients that leave: the server lives, a response that is not complete does not
// look complete, and only failures of the file are errors of the server.
import { once } from 'node:events';
import { appendFileSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

import test from 'ava';
import express from 'express';
import { sendStream } from 'fdsplice/send';
import sirv from 'sirv';

import { isNative, nativeTest } from '../helpers/engine.js';
import { Example } from '../helpers/example.js';
import { nothingIsLeft } from '../helpers/left.js';
import { deferred, until, within } from '../helpers/wait.js';
import { exchanged, site as plainSite } from '../http/site.js';
import { fetchAnswer, oneConnection, publicFolder, type Served, SIZE, sites } from './sites.js';

nothingIsLeft(test, 'behind all tests');

/** Fetches once. Resolves with the status, the announced length and the body; `isComplete` tells whether it is all. */
async function fetchOnce(port: number, path: string) {
  const request = http.get({ host: '127.0.0.1', port, path, agent: false });
  const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
  const chunks: Buffer[] = [];
  let isComplete = true;
  try {
    for await (const chunk of message) chunks.push(chunk as Buffer);
  } catch {
    isComplete = false;
  }
  const body = Buffer.concat(chunks);
  const length = Number(message.headers['content-length'] ?? body.length);
  return { status: message.statusCode, length, body, isComplete };
}

/** Replaces a file by versions of other lengths while it is fetched, and checks every answer. */
async function fetchWhileReplaced(
  fetches: number,
  file: string,
  fetch: () => ReturnType<typeof fetchOnce>,
): Promise<Record<string, number>> {
  let version = 0;
  const replace = () => {
    const letter = 'abcdefgh'.charAt((version += 1) % 8);
    writeFileSync(`${file}.new`, letter.repeat(SIZE + ((version * 54_321) % 800_000)));
    renameSync(`${file}.new`, file);
  };
  replace();
  const timer = setInterval(replace, 5);
  const counts: Record<string, number> = { complete: 0, refused: 0, cut: 0 };
  try {
    for (let done = 0; done < fetches; done += 8) {
      const answers = await Promise.all(Array.from({ length: 8 }, fetch));
      for (const { status, length, body, isComplete } of answers) {
        if (status !== 200) counts['refused']! += 1;
        else if (!isComplete) counts['cut']! += 1;
        else if (body.length !== length) throw new Error(`${body.length} of ${length} bytes look complete`);
        else if (body.some((byte) => byte !== body[0])) throw new Error('two versions in one body');
        else counts['complete']! += 1;
      }
    }
  } finally {
    clearInterval(timer);
  }
  return counts;
}

for (const server of ['express', 'fastify'] as const) {
  test.serial(
    `examples/static-server/${server}.js lives through 200 fetches of a file that is replaced`,
    async (t) => {
      const root = publicFolder(t);
      const { example, port } = await Example.listening(t, `static-server/${server}.js`, '--root', root);
      const counts = await fetchWhileReplaced(200, join(root, 'big.bin'), () =>
        fetchOnce(port, '/files/big.bin'),
      );
      t.is((counts['complete'] ?? 0) + (counts['refused'] ?? 0) + (counts['cut'] ?? 0), 200);
      t.true((counts['complete'] ?? 0) > 0, JSON.stringify(counts));
      t.is((await fetchOnce(port, '/files/small.txt')).body.toString(), 'a small file');
      example.signal();
      t.is(await example.ended(), 0);
    },
  );
}

for (const [name, site] of Object.entries(sites)) {
  test.serial(`${name}: a client that leaves early is no error of the server`, async (t) => {
    const root = publicFolder(t);
    writeFileSync(join(root, 'big.bin'), Buffer.alloc(24 << 20));
    const counts: Record<string, number>[] = [];
    for (const adapter of [false, true]) {
      const served = await site(t, { root, adapter });
      for (let left = 0; left < 40; left += 4) {
        await Promise.all([0, 1, 2, 3].map((each) => leaveEarly(served.port, (left + each) % 3)));
      }
      await until(
        'all responses are closed',
        () => served.seen.filter(({ response }) => response.includes('close')).length,
        (closed) => closed === 40,
      );
      // On streams the adapter does nothing.
      if (adapter && isNative) {
        await until(
          'all streams are closed',
          () => served.seen.filter((seen) => !seen.source.includes('close')).length,
          (open) => open === 0,
        );
      }
      counts.push(countsOf(served));
    }
    t.deepEqual(counts[1], counts[0]);
    t.is(counts[1]?.['finish'] ?? 0, 0);
  });
}

function countsOf({ seen, errors }: Served): Record<string, number> {
  const counts: Record<string, number> = {};
  const all = [
    ...seen.flatMap(({ response, source }) => [...response, ...source.map((event) => `source ${event}`)]),
  ];
  for (const event of all) counts[event] = (counts[event] ?? 0) + 1;
  // Koa reports one client several times, depending on which of its listeners destroys the stream first.
  for (const { code, message } of errors) counts[`error ${code ?? message}`] = 1;
  delete counts['source error'];
  // sirv never closes the stream of such a client. With the adapter it is closed.
  delete counts['source close'];
  return counts;
}

/** Leaves after the headers, after some of the body, or with a reset. */
async function leaveEarly(port: number, how: number): Promise<void> {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  socket.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
  let received = 0;
  while (received < (how === 1 ? 1_000_000 : 1)) {
    const [chunk] = (await within(20_000, 'a part', once(socket, 'data'))) as [Buffer];
    received += chunk.length;
  }
  if (how === 2) socket.resetAndDestroy();
  else socket.destroy();
}

for (const adapter of [false, true]) {
  test.serial(`200 early aborts of res.sendFile: ECONNABORTED for each, adapter: ${adapter}`, async (t) => {
    const root = publicFolder(t);
    writeFileSync(join(root, 'big.bin'), Buffer.alloc(24 << 20));
    const codes: unknown[] = [];
    let nexts = 0;
    const app = express();
    if (adapter) app.use(sendStream);
    app.get('/big.bin', (request, response) => {
      response.sendFile(request.path, { root }, (error?: NodeJS.ErrnoException) => codes.push(error?.code));
    });
    app.get('/static/big.bin', (request, response, next) => {
      request.url = '/big.bin';
      express.static(root)(request, response, (error?: unknown) => {
        nexts += 1;
        next(error);
      });
    });
    const { port } = await plainSite(t, app);
    for (let left = 0; left < 200; left += 4) {
      await Promise.all([0, 1, 2, 3].map((each) => leaveEarly(port, (left + each) % 3)));
    }
    await until(
      'every callback was called',
      () => codes.length,
      (called) => called === 200,
    );
    t.deepEqual([...new Set(codes)], ['ECONNABORTED']);
    t.is(nexts, 0);
  });
}

/** These pass no last byte to their stream, so that nothing tells a part of a body from a file that became shorter. */
const WITHOUT_END = ['sirv', 'sirv without encodings', 'koa-send'];

for (const [name, site] of Object.entries(sites)) {
  nativeTest(`${name}: a file that is truncated while it is sent does not look complete`, async (t) => {
    const root = publicFolder(t);
    writeFileSync(join(root, 'big.bin'), Buffer.alloc(64 << 20));
    const served = await site(t, { root, adapter: true });
    const socket = net.connect(served.port, '127.0.0.1').on('error', () => {});
    socket.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'readable');
    truncateSync(join(root, 'big.bin'), 1 << 20);
    let received = 0;
    socket.on('data', (chunk: Buffer) => (received += chunk.length));
    await within(20_000, 'the connection ends', once(socket, 'close'));
    t.true(received < 64 << 20);
    await until(
      'the stream has failed',
      () => served.seen.at(-1)?.source.join() ?? '',
      (events) => events.includes('error') && events.endsWith('close'),
    );
  });

  nativeTest(
    `${name}: a file that has grown after its stat is sent up to its announced length`,
    async (t) => {
      const root = publicFolder(t);
      const file = join(root, 'big.bin');
      const expected = readFileSync(file);
      const served = await site(t, { root, adapter: true });
      served.server.prependListener('request', (_request, response: http.ServerResponse) => {
        response.prependListener('pipe', () => appendFileSync(file, 'more'));
      });
      const agent = oneConnection(t);
      const { headers } = await fetchAnswer(served.port, agent, { path: '/big.bin' });
      t.is(headers['content-length'], String(SIZE));
      const received = await exchanged(served.port, 'GET /big.bin HTTP/1.1', 'HEAD /big.bin');
      const start = received.indexOf('\r\n\r\n') + 4;
      const length = Number(/content-length: (\d+)/i.exec(received)?.[1]);
      t.is(received.slice(start, start + SIZE), expected.toString('latin1'));
      t.regex(received.slice(start + length), /^HTTP\/1\.1 200 /);
    },
  );

  nativeTest(`${name}: a file that became shorter after its stat does not look complete`, async (t) => {
    const root = publicFolder(t);
    const file = join(root, 'big.bin');
    const served = await site(t, { root, adapter: true });
    served.server.prependListener('request', (_request, response: http.ServerResponse) => {
      response.prependListener('pipe', () => truncateSync(file, 500_000));
    });
    const { status, isComplete } = await fetchOnce(served.port, '/big.bin');
    if (WITHOUT_END.includes(name)) t.deepEqual([status, isComplete], [200, false]);
    else t.deepEqual([status, served.errors.at(-1)?.code], [500, 'ERR_SOURCE_TRUNCATED']);
    t.is((await fetchOnce(served.port, '/small.txt')).body.toString(), 'a small file');
  });

  test(`${name}: a file that disappears after its stat fails as without the adapter`, async (t) => {
    const answers = [];
    for (const adapter of [false, true]) {
      const root = publicFolder(t);
      const served = await site(t, { root, adapter });
      served.server.prependListener('request', (_request, response: http.ServerResponse) => {
        response.prependListener('pipe', () => rmSync(join(root, 'big.bin')));
      });
      const agent = oneConnection(t);
      const answer = fetchAnswer(served.port, agent, { path: '/big.bin' }).then(({ status }) => status);
      await until(
        'the stream is closed',
        () => served.seen.at(-1)?.source.includes('close'),
        (isClosed) => isClosed === true,
      );
      // sirv does not answer.
      const outcome = await within(500, 'an answer', answer).catch(() => 'none');
      answers.push([outcome, served.seen.at(-1)?.source, served.errors.map(({ code }) => code)]);
    }
    t.deepEqual(answers[1], answers[0]);
  });
}

nativeTest('a truncated file is no uncaught error of a stream whose errors nobody listens to', async (t) => {
  const root = publicFolder(t);
  writeFileSync(join(root, 'big.bin'), Buffer.alloc(64 << 20));
  const closed = deferred<void>();
  const { port } = await plainSite(t, (request, response) => {
    sendStream(response);
    // sirv adds no listener to its stream.
    response.on('pipe', (source: Readable) => source.on('close', closed.resolve));
    sirv(root, { dev: true })(request, response);
  });
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  socket.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'readable');
  truncateSync(join(root, 'big.bin'), 1 << 20);
  socket.resume();
  await within(20_000, 'the connection ends', once(socket, 'close'));
  await within(20_000, 'the stream is closed', closed.promise);
  t.is((await fetchOnce(port, '/small.txt')).body.toString(), 'a small file');
});
