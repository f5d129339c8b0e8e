// Framing of responses on a connection that stays open: a transfer must never put a byte where the client does not expect
// one, whatever the response is in the middle of.
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import http, { type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type TrafficResult, type TransferError } from 'fdsplice';

import { opened, sample } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { deferred, within } from '../helpers/wait.js';
import { exchanged } from './site.js';

async function listening(t: ExecutionContext, handler: RequestListener, options = {}): Promise<number> {
  const server = http.createServer(options, handler).listen(0, '127.0.0.1');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

for (const [kind, method, status] of [
  ['HEAD', 'HEAD', 200],
  ['204', 'GET', 204],
  ['304', 'GET', 304],
] as const) {
  test(`a copy into a response without a body (${kind}) sends no body`, async (t) => {
    const { path } = sample(t, 5000);
    const results: TrafficResult[] = [];
    const port = await listening(t, (_request, response) => {
      response.statusCode = status;
      response.setHeader('Content-Length', 5000);
      void copy(opened(t, path), response, { endDestination: true }).then((result) => results.push(result));
    });
    const received = await exchanged(port, `${method} /`, `${method} /`);
    t.is(received.match(/^HTTP\/1\.1 /gm)?.length, 2);
    t.is(received.split('\r\n\r\n').join('').length, received.length - 8, 'two heads and no body');
    t.true(received.endsWith('\r\n\r\n'));
    t.is(results.length, 2);
  });
}

for (const verb of ['sendFile', 'copy'] as const) {
  for (const moment of ['ended', 'finished'] as const) {
    test(`${verb} into a response that has ${moment} adds no byte to it`, async (t) => {
      const { path } = sample(t, 5);
      const outcome = deferred<TrafficResult>();
      const port = await listening(t, (_request, response) => {
        response.setHeader('Content-Length', 5);
        response.end('hello');
        const send = () => {
          const transfer =
            verb === 'copy'
              ? copy(opened(t, path), response, { reject: false })
              : sendFile(path, response, { reject: false });
          void transfer.then((result) => outcome.resolve(result));
        };
        if (moment === 'ended') send();
        else response.once('close', send);
      });
      t.regex(await exchanged(port, 'GET /'), /\r\n\r\nhello$/);
      const { tx } = await within(20_000, 'the transfer settles', outcome.promise);
      t.is(tx, 0);
    });
  }
}

test('a Content-Length removed while the headers are written leaves the body framed', async (t) => {
  const { path, bytes } = sample(t, 5000);
  const outcome = deferred<TrafficResult>();
  const port = await listening(t, (_request, response) => {
    // As the package on-headers does.
    const writeHead = response.writeHead.bind(response);
    Object.assign(response, {
      writeHead: (status: number) => {
        response.removeHeader('Content-Length');
        return writeHead(status);
      },
    });
    void sendFile(path, response).then((result) => outcome.resolve(result));
  });
  const [message] = (await once(http.get({ port, agent: false }), 'response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  t.is(message.headers['transfer-encoding'], 'chunked');
  t.true(Buffer.concat(chunks).equals(bytes));
  t.like(await outcome.promise, { tx: 5000, engine: 'stream' });
});

for (const verb of ['sendFile', 'copy'] as const) {
  test(`${verb} rejects a response that another transfer is writing to`, async (t) => {
    const { path, bytes } = sample(t, 3_000_000);
    const rejected = deferred<NodeJS.ErrnoException>();
    const port = await listening(t, (_request, response) => {
      response.setHeader('Content-Length', bytes.length);
      const first = sendFile(path, response);
      const second = verb === 'copy' ? copy(opened(t, path), response) : sendFile(path, response);
      second.then(
        () => rejected.resolve(new Error('not rejected')),
        (error: NodeJS.ErrnoException) => rejected.resolve(error),
      );
      void first.catch(() => {});
    });
    const received = await exchanged(port, 'GET /');
    t.is(received.length - received.indexOf('\r\n\r\n') - 4, bytes.length);
    const error = await rejected.promise;
    t.is(error.code, 'ERR_INVALID_ARG_VALUE', error.message);
    t.regex(error.message, /destination/);
  });
}

for (const declared of [4000, 6000]) {
  test(`a response with strictContentLength and ${declared} bytes rejects a body of 5,000`, async (t) => {
    const { path } = sample(t, 5000);
    const outcome = deferred<TransferError | null>();
    const port = await listening(t, (_request, response) => {
      response.strictContentLength = true;
      response.setHeader('Content-Length', declared);
      void copy(opened(t, path), response, { endDestination: true, reject: false }).then(({ error }) => {
        outcome.resolve(error);
        response.destroy();
      });
    });
    await exchanged(port, 'GET /');
    const error = await within(20_000, 'the copy settles', outcome.promise);
    t.is(error?.code, 'ERR_HTTP_CONTENT_LENGTH_MISMATCH', String(error));
    t.is(error?.side, 'destination');
  });
}

test('a response with strictContentLength accepts several copies that add up to its length', async (t) => {
  const { path, bytes } = sample(t, 5000);
  const engines: string[] = [];
  const port = await listening(t, (_request, response) => {
    response.strictContentLength = true;
    response.setHeader('Content-Length', 5004);
    void (async () => {
      response.write('ab');
      const file = openSync(path, 'r');
      for (const options of [{ length: 2000 }, { head: Buffer.from('cd') }]) {
        engines.push((await copy(file, response, options)).engine);
      }
      closeSync(file);
      t.true(response.strictContentLength);
      response.end();
    })();
  });
  const received = await exchanged(port, 'GET /');
  const body = Buffer.from(received.slice(received.indexOf('\r\n\r\n') + 4), 'latin1');
  const expected = [Buffer.from('ab'), bytes.subarray(0, 2000), Buffer.from('cd'), bytes.subarray(2000)];
  t.true(body.equals(Buffer.concat(expected)));
  t.deepEqual(engines, [engine, engine]);
});

test('a response whose write throws fails the copy, not the process', async (t) => {
  const { path } = sample(t, 5000);
  const outcome = deferred<TransferError | null>();
  const handler: RequestListener = (_request, response) => {
    void copy(opened(t, path), response, { reject: false }).then(({ error }) => {
      outcome.resolve(error);
      response.end();
    });
  };
  const port = await listening(t, handler, { rejectNonStandardBodyWrites: true });
  t.regex(await exchanged(port, 'HEAD /'), /^HTTP\/1\.1 200 OK\r\n/);
  const error = await outcome.promise;
  t.like(error, { code: 'ERR_HTTP_BODY_NOT_ALLOWED', side: 'destination' });
  t.is(error?.traffic.tx, 0);
});

test('an invalid write during a transfer fails the response, not the process', async (t) => {
  const { path } = sample(t, 5000);
  const closed = deferred<Error | null>();
  const outcome = deferred<TrafficResult>();
  const port = await listening(t, (_request, response) => {
    response.setHeader('Content-Length', 5000);
    response.on('close', () => closed.resolve(response.errored));
    void sendFile(opened(t, path), response, { endDestination: false }).then(outcome.resolve);
    (response as { write(chunk: unknown): void }).write(5);
  });
  await exchanged(port, 'GET /');
  t.is((await within(20_000, 'the transfer settles', outcome.promise)).tx, 5000);
  const error: NodeJS.ErrnoException | null = await within(20_000, 'the response is closed', closed.promise);
  t.is(error?.code, 'ERR_INVALID_ARG_TYPE');
});

for (const [framing, headers] of [
  ['with a Content-Length', { 'Content-Length': 5 + 6 }],
  ['in chunks', { 'Transfer-Encoding': 'chunked' }],
] as const) {
  test(`writes during a copy into a response ${framing} follow the copy`, async (t) => {
    const { path, bytes } = sample(t, 5);
    const port = await listening(t, (_request, response) => {
      response.writeHead(200, headers);
      void copy(opened(t, path), response);
      response.write('behin');
      response.end('d');
    });
    const [message] = (await once(http.get({ port, agent: false }), 'response')) as [http.IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(chunk as Buffer);
    t.deepEqual(Buffer.concat(chunks), Buffer.concat([bytes, Buffer.from('behind')]));
  });
}

test('writes during sendFile of a path follow the file, although it is still being opened', async (t) => {
  const { path, bytes } = sample(t, 5000);
  const port = await listening(t, (_request, response) => {
    response.setHeader('Transfer-Encoding', 'chunked');
    void sendFile(path, response, { endDestination: false });
    response.end('behind');
  });
  const [message] = (await once(http.get({ port, agent: false }), 'response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  t.deepEqual(Buffer.concat(chunks), Buffer.concat([bytes, Buffer.from('behind')]));
});
