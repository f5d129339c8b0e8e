// The length that the headers of a response announce bounds its body: a byte more would be taken for the next response,
// and a client that gets fewer must see a failure.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';

import {
  appendFileSync,
  createReadStream,
  type ReadStream,
  readFileSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type TrafficResult, type TransferError } from 'fdsplice';

import { started } from '../helpers/copy-child.js';
import { directory, opened, sample } from '../helpers/copy-files.js';
import { engine, nativeTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, within } from '../helpers/wait.js';
import { collect, exchanged, http2Client, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

/** The bodies on one connection; each response has a Content-Length of `length`. */
function bodiesIn(received: string, length: number): string[] {
  const bodies = [];
  for (let rest = received; rest !== '';) {
    const body = rest.indexOf('\r\n\r\n') + 4;
    if (!rest.startsWith('HTTP/1.1 200 OK\r\n') || body < 4) return [...bodies, `stray: ${rest}`];
    bodies.push(rest.slice(body, body + length));
    rest = rest.slice(body + length);
  }
  return bodies;
}

const ANNOUNCEMENTS: Record<string, (response: ServerResponse, length: number) => void> = {
  'a number': (response, length) => void response.setHeader('Content-Length', length),
  'a string': (response, length) => void response.setHeader('content-length', `${length}`),
  'an array': (response, length) => void response.setHeader('Content-Length', [`${length}`]),
  'writeHead and an object': (response, length) => void response.writeHead(200, { 'CONTENT-LENGTH': length }),
  'writeHead and an array': (response, length) =>
    void response.writeHead(200, 'OK', ['Content-Length', length, 'X-Other', '1'] as never),
  'headers that are out': (response, length) => {
    response.writeHead(200, { 'content-length': length });
    response.flushHeaders();
  },
};

for (const [how, announce] of Object.entries(ANNOUNCEMENTS)) {
  for (const length of [0, 5]) {
    test(`no byte of a procfs file exceeds a Content-Length of ${length} given by ${how}`, async (t) => {
      const results: TrafficResult[] = [];
      const { port } = await site(t, ({ url }, response) => {
        announce(response, length);
        const file = url === '/path' ? '/proc/version' : opened(t, '/proc/version');
        void sendFile(file, response).then((result) => results.push(result));
      });
      const received = await exchanged(port, 'GET /path', 'GET /number', 'GET /path');
      const expected = readFileSync('/proc/version', 'latin1').slice(0, length);
      t.deepEqual(bodiesIn(received, length), [expected, expected, expected]);
      t.deepEqual(
        results.map(({ tx }) => tx),
        [length, length, length],
      );
    });
  }

  for (const size of [1000, 200_000]) {
    test(`a file of ${size} bytes is sent up to a Content-Length that is shorter, given by ${how}`, async (t) => {
      const { path, bytes } = sample(t, size);
      const results: TrafficResult[] = [];
      const { port } = await site(t, ({ url }, response) => {
        announce(response, size - 1);
        const file = url === '/path' ? path : opened(t, path);
        void sendFile(file, response, { zeroCopy: url !== '/copied' }).then((result) => results.push(result));
      });
      const received = await exchanged(port, 'GET /path', 'GET /copied', 'GET /number');
      const expected = bytes.toString('latin1', 0, size - 1);
      t.deepEqual(bodiesIn(received, size - 1), [expected, expected, expected]);
      for (const { tx, engine: used } of results) t.deepEqual([tx, used], [size - 1, engine]);
    });
  }
}

test('an empty file that grows while the headers go out adds no byte behind a Content-Length of 0', async (t) => {
  const { path } = sample(t, 0);
  const { port } = await site(t, ({ url }, response) => {
    if (url === '/set') response.setHeader('Content-Length', 0);
    for (const method of ['flushHeaders', 'writeHead'] as const) {
      const original = response[method].bind(response) as (...args: unknown[]) => unknown;
      Object.assign(response, {
        [method]: (...args: unknown[]) => {
          appendFileSync(path, 'grown');
          return original(...args);
        },
      });
    }
    void sendFile(path, response).finally(() => truncateSync(path));
  });
  for (const request of ['GET /set', 'GET /unset']) {
    t.deepEqual(bodiesIn(await exchanged(port, request, request), 0), ['', '']);
  }
});

for (const [when, out] of [
  ['before the headers are sent leaves the response untouched', false],
  ['behind the headers breaks the response off', true],
] as const) {
  for (const method of ['path', 'number'] as const) {
    test(`a file (${method}) that is shorter than announced ${when}`, async (t) => {
      const { path } = sample(t, 1000);
      const outcome = deferred<TransferError | null>();
      const { port } = await site(t, (_request, response) => {
        response.setHeader('Content-Length', 1001);
        if (out) response.flushHeaders();
        const file = method === 'path' ? path : opened(t, path);
        void sendFile(file, response, { reject: false }).then(({ error }) => {
          outcome.resolve(error);
          if (response.headersSent) return;
          response.removeHeader('Content-Length');
          response.statusCode = 503;
          response.end('changed');
        });
      });
      const received = await exchanged(port, 'GET /');
      t.like(await outcome.promise, { code: 'ERR_SOURCE_TRUNCATED', side: 'source' });
      t.regex(received, out ? /^HTTP\/1\.1 200 OK\r\n/ : /^HTTP\/1\.1 503 .*\r\nchanged\r\n/s);
      t.true(received.length < 1000, 'no byte that could complete the response');
    });
  }
}

test('a Content-Length that contradicts start and end is a mistake, whatever the size of the file', async (t) => {
  const { path } = sample(t, 1000);
  const codes: unknown[] = [];
  const { port } = await site(t, (_request, response) => {
    void (async () => {
      for (const [length, start, end] of [
        [10, 0, 8],
        [10, 0, 10],
        [2000, 900, 1100],
        ['ten', 0, 9],
        ['-1', 0, 9],
        ['1e1', 0, 9],
        ['10, 11', 0, 9],
      ] as const) {
        response.setHeader('Content-Length', length);
        const error = await t.throwsAsync(sendFile(path, response, { start, end, reject: false }));
        codes.push((error as NodeJS.ErrnoException).code);
      }
      response.removeHeader('Content-Length');
      await sendFile(path, response, { start: 0, end: 9 });
    })();
  });
  t.is(bodiesIn(await exchanged(port, 'GET /'), 10)[0]?.length, 10);
  t.deepEqual(codes, Array(7).fill('ERR_INVALID_ARG_VALUE'));
});

test('an empty file with a Content-Length of 0 is sent, although its bounds name one byte', async (t) => {
  const { path } = sample(t, 0);
  const outcome = deferred<TrafficResult>();
  const { port } = await site(t, (_request, response) => {
    response.setHeader('Content-Length', 0);
    void sendFile(path, response, { start: 0, end: 0, reject: false }).then(outcome.resolve);
  });
  t.deepEqual(bodiesIn(await exchanged(port, 'GET /', 'GET /'), 0), ['', '']);
  t.like(await outcome.promise, { error: null, tx: 0 });
});

/** A stream of a file. A copy leaves it open when it does not take all of it. */
function fileStream(t: ExecutionContext, path: string): ReadStream {
  const stream = createReadStream(path);
  t.teardown(() => void stream.destroy());
  return stream;
}

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
        if (typeof from !== 'number' && 'destroy' in from) from.destroy();
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

test('a part of a file and writes around it make up the announced body', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const { port } = await site(t, (_request, response) => {
    void (async () => {
      response.setHeader('Content-Length', 212);
      response.write('before');
      await sendFile(path, response, { start: 0, end: 99, endDestination: false });
      await sendFile(path, response, { start: 500, end: 599, endDestination: false });
      response.end('behind');
    })();
  });
  const received = await exchanged(port, 'GET /', 'GET /');
  const parts = [bytes.subarray(0, 100), bytes.subarray(500, 600)].map((part) => part.toString('latin1'));
  const expected = `before${parts.join('')}behind`;
  t.deepEqual(bodiesIn(received, 212), [expected, expected]);
});

for (const call of ['write', 'end'] as const) {
  test(`${call}() by the owner during a transfer adds no byte behind the Content-Length`, async (t) => {
    const { path, bytes } = sample(t, 1000);
    const { port } = await site(t, (_request, response) => {
      void sendFile(path, response, { reject: false });
      response[call]('sorry');
    });
    const [body, ...others] = bodiesIn(await exchanged(port, 'GET /', 'GET /'), 1000);
    t.is(body, bytes.toString('latin1'));
    // The call may have closed the connection.
    for (const other of others) t.is(other, bytes.toString('latin1'));
  });
}

async function overTls(t: ExecutionContext, handler: RequestListener): Promise<https.RequestOptions> {
  const port = await listening(t, https.createServer(identity, handler));
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ...trust });
  t.teardown(() => agent.destroy());
  return { port, agent, host: '127.0.0.1' };
}

for (const verb of ['sendFile', 'copy'] as const) {
  test(`HTTPS: ${verb} ends at a Content-Length, also at one that changes when the headers are written`, async (t) => {
    const { path, bytes } = sample(t, 1000);
    const place = await overTls(t, (_request, response) => {
      response.setHeader('Content-Length', 400);
      const writeHead = response.writeHead.bind(response);
      response.writeHead = (status: number) => {
        response.setHeader('Content-Length', 300);
        return writeHead(status);
      };
      void (verb === 'copy'
        ? copy(opened(t, path), response, { endDestination: true })
        : sendFile(path, response));
    });
    for (let round = 0; round < 2; round += 1) {
      const [message] = (await within(20_000, 'an answer', once(https.get(place), 'response'))) as [
        IncomingMessage,
      ];
      t.true((await collect(message)).body.equals(bytes.subarray(0, 300)));
    }
  });

  for (const announced of [400, 1001]) {
    test(`HTTP/2: ${verb} of 1,000 bytes into a response that announces ${announced}`, async (t) => {
      const { path, bytes } = sample(t, 1000);
      const outcome = deferred<TrafficResult>();
      const client = await http2Client(t, (_request, response) => {
        response.writeHead(200, { 'Content-Length': announced });
        const transfer =
          verb === 'copy'
            ? copy(fileStream(t, path), response, { endDestination: true, reject: false })
            : sendFile(path, response, { reject: false });
        void transfer.then((result) => outcome.resolve(result));
      });
      const request = client.request();
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {});
      await within(20_000, 'the stream is closed', new Promise((closed) => request.once('close', closed)));
      const { tx, error } = await within(20_000, 'the transfer settles', outcome.promise);
      if (announced === 400) {
        t.deepEqual([tx, error, request.rstCode], [400, null, 0]);
        t.true(Buffer.concat(chunks).equals(bytes.subarray(0, 400)));
      } else {
        const code = verb === 'copy' ? 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' : 'ERR_SOURCE_TRUNCATED';
        t.is(error?.code, code);
        t.not(request.rstCode, 0);
      }
    });
  }
}

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
