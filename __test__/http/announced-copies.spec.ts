// The length that the headers of a response announce bounds the copies into it: a byte more would be taken for the next
// response, and a client that gets fewer must see a failure.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, type TrafficResult, type TransferError } from 'fdsplice';

import { started } from '../helpers/copy-child.js';
import { directory, fileStream, opened, sample } from '../helpers/copy-files.js';
import { nativeTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { deferred, within } from '../helpers/wait.js';
import { bodiesIn, collect, exchanged, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

type Source = (t: ExecutionContext, bytes: Buffer, path: string) => Promise<Parameters<typeof copy>[0]>;

const SOURCES: Record<string, Source> = {
  'a file': (t, _bytes, path) => Promise.resolve(opened(t, path)),
  'a stream': (t, _bytes, path) => Promise.resolve(fileStream(t, path)),
  'a socket': async (t, bytes) => {
    const server = net.createServer((socket) => void socket.on('error', () => {}).end(bytes));
    const port = await listening(t, server);
    return net.connect(port, '127.0.0.1');
  },
  'the output of a child': (t, _bytes, path) =>
    Promise.resolve(started(t, 'cat', [path], ['ignore', 'pipe', 'inherit']).stdout as never),
  'a stream that stays open': (_t, bytes) => {
    const stream = new PassThrough();
    stream.write(bytes);
    return Promise.resolve(stream);
  },
};

for (const [name, source] of Object.entries(SOURCES)) {
  test(`a copy of ${name} ends at the Content-Length of the response, and the connection stays usable`, async (t) => {
    const { path, bytes } = sample(t, 1000);
    const results: TrafficResult[] = [];
    const { port } = await site(t, (_request, response) => {
      void (async () => {
        response.setHeader('Content-Length', 400);
        const from = await source(t, bytes, path);
        results.push(await copy(from, response, { endDestination: true }));
        if (typeof from === 'object' && 'destroy' in from) from.destroy();
      })();
    });
    const received = await exchanged(port, 'GET /', 'GET /');
    const expected = bytes.toString('latin1', 0, 400);
    t.deepEqual(bodiesIn(received, 400), [expected, expected]);
    for (const { tx } of results) t.is(tx, 400);
  });

  if (name === 'a stream that stays open') continue;
  test(`a copy of ${name} that is shorter than the Content-Length fails and breaks the response off`, async (t) => {
    const { path, bytes } = sample(t, 1000);
    const outcome = deferred<TransferError | null>();
    const place = await site(t, (_request, response) => {
      void (async () => {
        response.setHeader('Content-Length', 1001);
        const from = await source(t, bytes, path);
        const { error } = await copy(from, response, { endDestination: true, reject: false });
        outcome.resolve(error);
      })();
    });
    const request = http.get({ host: '127.0.0.1', ...place });
    const [message] = (await within(20_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
    await t.throwsAsync(within(20_000, 'the response ends', collect(message)), { code: 'ECONNRESET' });
    t.like(await outcome.promise, { code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH', side: 'destination' });
  });
}

test('what exceeds the Content-Length stays readable in the source of a copy', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const rest: Buffer[] = [];
  const done = deferred<void>();
  const { port } = await site(t, (_request, response) => {
    void (async () => {
      response.setHeader('Content-Length', 400);
      const from = fileStream(t, path);
      await copy(from, response, { endDestination: true });
      for await (const chunk of from) rest.push(chunk as Buffer);
      done.resolve();
    })();
  });
  await exchanged(port, 'GET /');
  await within(20_000, 'the rest is read', done.promise);
  t.true(Buffer.concat(rest).equals(bytes.subarray(400)));
});

for (const [length, head, sent] of [
  [10, 0, 10],
  [1000, 0, 400],
  [0, 0, 0],
  [1000, 100, 400],
  [1000, 500, 400],
] as const) {
  test(`a copy with length ${length} and a head of ${head} bytes sends ${sent} of 400 announced bytes`, async (t) => {
    const { path, bytes } = sample(t, 1000);
    const outcome = deferred<TrafficResult>();
    const { port } = await site(t, (_request, response) => {
      response.setHeader('Content-Length', 400);
      const options = { length, head: bytes.subarray(0, head) };
      void copy(opened(t, path), response, options).then((result) => {
        outcome.resolve(result);
        response.end();
        if (result.tx < 400) response.destroy();
      });
    });
    const received = await exchanged(port, 'GET /');
    t.is((await outcome.promise).tx, sent);
    t.true(received.length - received.indexOf('\r\n\r\n') - 4 <= 400);
  });
}

test('several copies and writes into one response together end at its Content-Length', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const sent: number[] = [];
  const { port } = await site(t, (_request, response) => {
    void (async () => {
      response.setHeader('Content-Length', 400);
      sent.push((await copy(opened(t, path), response, { length: 100 })).tx);
      response.write('a'.repeat(50));
      sent.push((await copy(fileStream(t, path), response, { endDestination: true })).tx);
    })();
  });
  const received = await exchanged(port, 'GET /', 'GET /');
  const expected = `${bytes.toString('latin1', 0, 100)}${'a'.repeat(50)}${bytes.toString('latin1', 0, 250)}`;
  t.deepEqual(bodiesIn(received, 400), [expected, expected]);
  t.deepEqual(sent, [100, 250, 100, 250]);
});

nativeTest('a pipe given as a number is copied up to the Content-Length', async (t) => {
  const { bytes } = sample(t, 1000);
  const fifo = join(directory(t), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const fd = opened(t, fifo, 'r+');
  writeSync(fd, bytes);
  const { port } = await site(t, (_request, response) => {
    response.setHeader('Content-Length', 400);
    void copy(fd, response, { endDestination: true });
  });
  t.deepEqual(bodiesIn(await exchanged(port, 'GET /'), 400), [bytes.toString('latin1', 0, 400)]);
});
