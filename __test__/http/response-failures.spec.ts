// Responses that fail: mistakes, missing and shrinking files, clients that disconnect, aborts.
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
