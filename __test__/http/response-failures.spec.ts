// Responses that fail: rejected arguments, missing and truncated files, clients that disconnect, aborts. A response stays
// usable until headers were sent; after that its client must see the failure.
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync, truncateSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import net from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile } from 'fdsplice';

import { opened, sample } from '../helpers/copy-files.js';
import { openDescriptors } from '../helpers/descriptors.js';
import { isNative } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { deferred, until, within } from '../helpers/wait.js';
import { get, type Site, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

test('a Content-Length that contradicts start and end is rejected, and the response stays usable', async (t) => {
  const { path } = sample(t, 2000);
  const place = await site(t, (_request, response) => {
    response.setHeader('Content-Length', 999);
    sendFile(path, response, { start: 0, end: 999 }).catch((error: NodeJS.ErrnoException) => {
      t.false(response.headersSent);
      response.removeHeader('Content-Length');
      response.writeHead(500).end(`${error.name} ${error.code} ${error.message}`);
    });
  });
  const { status, body } = await get(place);
  t.is(status, 500);
  t.regex(body.toString(), /^TypeError ERR_INVALID_ARG_VALUE "destination" .*999.*1000/);
});

test('a missing file leaves the response untouched', async (t) => {
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

/** A client that reads the beginning of the answer and then stops reading. */
async function stalledClient(t: ExecutionContext, { port }: Site): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'readable');
  socket.read(1000);
  return socket;
}

test('a file that is truncated while it is sent cuts the response off', async (t) => {
  const { path } = sample(t, 30_000_000);
  const outcome = deferred<Error | null>();
  const place = await site(t, (_request, response) => {
    void sendFile(path, response, { reject: false }).then(({ error }) => outcome.resolve(error));
  });
  const socket = await stalledClient(t, place);
  const fd = openSync(path, 'r+');
  ftruncateSync(fd, 100_000);
  closeSync(fd);
  let got = 0;
  socket.on('data', (chunk: Buffer) => (got += chunk.length));
  await within(20_000, 'the connection is closed', once(socket, 'close'));
  t.true(got < 30_000_000);
  t.like(await outcome.promise, { code: 'ERR_SOURCE_TRUNCATED', side: 'source' });
});

test('a file that is truncated between the headers and the body cuts the response off', async (t) => {
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
  // The stream engine does not flush headers separately, so the truncation never happens there.
  if (!isNative) {
    await get(place);
    t.is(await outcome.promise, null);
    return;
  }
  const error = await t.throwsAsync<NodeJS.ErrnoException>(get(place));
  t.is(error.code, 'ECONNRESET');
  t.like(await outcome.promise, { code: 'ERR_SOURCE_TRUNCATED', side: 'source' });
});

test('a client that disconnects fails the transfer, and the file is closed', async (t) => {
  const { path } = sample(t, 30_000_000);
  const outcome = deferred<Error | null>();
  const seen: string[] = [];
  const place = await site(t, (_request, response) => {
    response.on('finish', () => seen.push('finish')).on('close', () => seen.push('close'));
    void sendFile(path, response, { reject: false }).then(({ error }) => outcome.resolve(error));
  });
  const socket = await stalledClient(t, place);
  socket.resetAndDestroy();
  const error = (await within(20_000, 'the transfer ends', outcome.promise)) as NodeJS.ErrnoException;
  t.true(['ECONNRESET', 'EPIPE', 'ABORT_ERR'].includes(error.code ?? ''), String(error));
  await until(
    'the response is closed',
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

for (const [effect, endDestination] of [
  ['destroys it by default', undefined],
  ['leaves it open with endDestination: false', false],
] as const) {
  test(`an abort in the middle of a response ${effect}`, async (t) => {
    const { path } = sample(t, 30_000_000);
    const started = deferred<[ServerResponse, ReturnType<typeof sendFile>]>();
    const place = await site(t, (_request, response) => {
      started.resolve([response, sendFile(path, response, { endDestination })]);
    });
    const socket = await stalledClient(t, place);
    const [response, transfer] = await started.promise;
    transfer.abort('enough');
    t.like(await failure(t, transfer), { code: 'ABORT_ERR', cause: 'enough' });
    t.is(response.destroyed, endDestination !== false);
    response.destroy();
    socket.resume();
    await within(20_000, 'the connection is closed', once(socket, 'close'));
  });
}

for (const [framing, headers] of [
  ['with a Content-Length', { 'Content-Length': 30_000_000 }],
  ['chunked', {}],
] as const) {
  for (const [effect, endDestination] of [
    ['destroys it with endDestination', true],
    ['leaves it open by default', undefined],
  ] as const) {
    test(`an abort in the middle of a copy into a response, ${framing}, ${effect}`, async (t) => {
      const { path } = sample(t, 30_000_000);
      const started = deferred<[ServerResponse, ReturnType<typeof copy>]>();
      const place = await site(t, (_request, response) => {
        response.writeHead(200, headers);
        started.resolve([response, copy(opened(t, path), response, { endDestination })]);
      });
      const socket = await stalledClient(t, place);
      const [response, transfer] = await started.promise;
      transfer.abort('enough');
      t.like(await failure(t, transfer), { code: 'ABORT_ERR', cause: 'enough' });
      t.is(response.destroyed, endDestination === true);
      response.destroy();
      socket.resume();
      await within(20_000, 'the connection is closed', once(socket, 'close'));
    });
  }
}

test('a copy that is aborted before it starts leaves the response untouched', async (t) => {
  const { path } = sample(t, 1000);
  for (const headers of [{ 'Content-Length': 1000 }, {}]) {
    const place = await site(t, (_request, response) => {
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
      const options = { endDestination: true, signal: AbortSignal.abort() };
      copy(opened(t, path), response, options).catch(() => {
        response.removeHeader('Content-Length');
        response.writeHead(503).end('later');
      });
    });
    t.like(await get(place), { status: 503, body: Buffer.from('later') });
  }
});

test('a destroyed response is reported in the result', async (t) => {
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
  await within(20_000, 'the result is in', done.promise);
});

test('an ended response accepts nothing, and its connection stays usable', async (t) => {
  const { path } = sample(t, 10);
  const failures: unknown[] = [];
  const place = await site(t, (_request, response) => {
    response.end('0123456789');
    const transfers = [sendFile(path, response), copy(opened(t, path), response)];
    for (const transfer of transfers) transfer.catch((error: unknown) => failures.push(error));
  });
  for (let request = 0; request < 2; request += 1) t.is(String((await get(place)).body), '0123456789');
  await until(
    'all failures are in',
    () => failures.length,
    (count) => count === 4,
  );
  for (const error of failures) {
    t.like(error, { code: 'ERR_STREAM_WRITE_AFTER_END', side: 'destination', traffic: { total: 0 } });
  }
});

for (const method of ['GET', 'HEAD']) {
  test(`headers that Node rejects fail the transfer, and the response to ${method} stays usable`, async (t) => {
    const { path } = sample(t, 10);
    const sendRejected = async (response: ServerResponse) => {
      response.setHeader('Trailer', 'X-Checksum');
      const code = 'ERR_HTTP_TRAILER_INVALID';
      await t.throwsAsync(within(5_000, 'a rejection', sendFile(path, response)), { code });
      t.false(response.headersSent);
      response.removeHeader('Trailer');
      response.statusCode = 500;
      response.end('sorry');
    };
    const place = await site(t, (_request, response) => void sendRejected(response));
    t.is((await get(place, { method })).status, 500);
  });
}

for (const [failing, kind] of [
  ['a replaced write that throws', 'path'],
  ['a replaced write that throws', 'number'],
  ['an abort', 'path'],
  ['a missing file', 'path'],
] as const) {
  test(`an answer that the owner gives during sendFile of a ${kind} keeps its own framing after ${failing}`, async (t) => {
    const { path } = sample(t, 100_000);
    const codes: unknown[] = [];
    const place = await site(t, (_request, response) => {
      if (failing === 'a replaced write that throws') {
        response.write = () => {
          throw new Error('no body today');
        };
      }
      const name = failing === 'a missing file' ? '/missing/file' : path;
      const transfer = sendFile(kind === 'path' ? name : opened(t, name), response, { reject: false });
      void transfer.then(({ error }) => codes.push(error?.code));
      response.end('sorry');
      if (failing === 'an abort') transfer.abort();
    });
    for (let round = 0; round < 2; round += 1) {
      const { body, headers } = await get(place);
      t.is(String(body), 'sorry');
      t.not(headers['content-length'], '100000');
    }
    await until(
      'both transfers have settled',
      () => codes.length,
      (count) => count === 2,
    );
    t.false(codes.includes(undefined));
  });
}
