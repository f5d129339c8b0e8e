// The length that the headers of a response announce bounds the files that are sent as its body, and every body over TLS
// and HTTP/2: a byte more would be taken for the next response, and a client that gets fewer must see a failure.
import { once } from 'node:events';
import { appendFileSync, readFileSync, truncateSync } from 'node:fs';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import https from 'node:https';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type TrafficResult, type TransferError } from 'fdsplice';

import { fileStream, opened, sample } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, within } from '../helpers/wait.js';
import { bodiesIn, collect, exchanged, http2Client, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

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

for (const reject of [true, false]) {
  test(`bounds of an earlier, longer file: ${reject ? 'a rejection' : 'a result with the error'}, and the response is untouched`, async (t) => {
    const { path } = sample(t, 500);
    const outcome = deferred<TransferError | null>();
    const { port } = await site(t, (_request, response) => {
      response.setHeader('Content-Length', 900);
      void sendFile(path, response, { start: 100, end: 999, reject })
        .then(
          ({ error }) => error,
          (error: TransferError) => (reject ? error : null),
        )
        .then((error) => {
          outcome.resolve(error);
          response.writeHead(503, { 'Content-Length': 7 }).end('changed');
        });
    });
    t.regex(await exchanged(port, 'GET /'), /^HTTP\/1\.1 503 .*changed$/s);
    t.like(await outcome.promise, { name: 'TransferError', code: 'ERR_SOURCE_TRUNCATED', side: 'source' });
  });
}

test('bounds of an earlier, shorter file: exactly the announced bytes are sent', async (t) => {
  const { path, bytes } = sample(t, 200_000);
  const { port } = await site(t, (_request, response) => {
    response.setHeader('Content-Length', 900);
    void sendFile(path, response, { start: 100, end: 999 });
  });
  const expected = bytes.toString('latin1', 100, 1000);
  t.deepEqual(bodiesIn(await exchanged(port, 'GET /', 'GET /'), 900), [expected, expected]);
});

for (const [rest, complete] of [
  ['', false],
  ['b'.repeat(99), false],
  ['b'.repeat(100), true],
] as const) {
  test(`a response that ends with ${rest.length} of 100 bytes after a part of a file ${complete ? 'stays' : 'is broken off'}`, async (t) => {
    const { path, bytes } = sample(t, 1000);
    const { port } = await site(t, (_request, response) => {
      response.setHeader('Content-Length', 200);
      void sendFile(path, response, { start: 0, end: 99, endDestination: false, reject: false }).then(() =>
        response.end(rest),
      );
    });
    const received = await exchanged(port, 'GET / HTTP/1.1', 'GET /');
    const expected = `${bytes.toString('latin1', 0, 100)}${rest}`;
    if (complete) t.deepEqual(bodiesIn(received, 200), [expected, expected]);
    else t.true(received.length - received.indexOf('\r\n\r\n') - 4 < 200, 'no second response');
  });
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
