// Transfers that wait before their first byte: a pipelined response for its turn, the end of a response for a client that
// does not read, a stream that closes before the file is open. Each wait ends when what it waits for is lost, and
// idleTimeout counts from the call.
import { once } from 'node:events';
import http, { type RequestListener, type ServerResponse } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import tls from 'node:tls';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type Transfer, type TransferError } from 'fdsplice';

import { opened, sample } from '../helpers/copy-files.js';
import { openDescriptors } from '../helpers/descriptors.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, until, within } from '../helpers/wait.js';
import { http2Client, listening } from './site.js';

nothingIsLeft(test, 'behind all tests');

const QUEUED = 20;

/** Node's warnings of too many listeners. */
const leaks: string[] = [];
process.on('warning', ({ name, message }) => {
  if (name === 'MaxListenersExceededWarning') leaks.push(message);
});

type Send = (t: ExecutionContext, path: string, response: ServerResponse, idleTimeout?: number) => Transfer;

/** Ways to send a file into a response that waits for its turn. */
const WAYS: Record<string, Send> = {
  'sendFile of a path': (_t, path, response, idleTimeout) =>
    sendFile(path, response, { idleTimeout, reject: false }),
  'sendFile of a number': (t, path, response, idleTimeout) =>
    sendFile(opened(t, path), response, { idleTimeout, reject: false }),
  'sendFile in chunks': (_t, path, response, idleTimeout) => {
    response.setHeader('Transfer-Encoding', 'chunked');
    return sendFile(path, response, { idleTimeout, reject: false });
  },
  'sendFile through a wrapper': (_t, path, response, idleTimeout) => {
    const write = response.write.bind(response);
    response.write = ((...args: Parameters<typeof write>) => write(...args)) as typeof write;
    return sendFile(path, response, { idleTimeout, reject: false });
  },
  'copy with a Content-Length': (t, path, response, idleTimeout) => {
    response.setHeader('Content-Length', 100_000);
    return copy(opened(t, path), response, { endDestination: true, idleTimeout, reject: false });
  },
  'copy in chunks': (t, path, response, idleTimeout) =>
    copy(opened(t, path), response, { endDestination: true, idleTimeout, reject: false }),
};

interface Pipeline {
  /** Connects, and sends many requests. The first of them is never answered. */
  connect: (method?: string) => Promise<net.Socket>;
  responses: ServerResponse[];
}

async function pipeline(t: ExecutionContext, secure: boolean): Promise<Pipeline> {
  const responses: ServerResponse[] = [];
  const handler: RequestListener = (_request, response) => void responses.push(response);
  const server = secure ? https.createServer(identity, handler) : http.createServer(handler);
  const port = await listening(t, server);
  t.teardown(() => server.closeAllConnections());
  return {
    responses,
    async connect(method = 'GET') {
      const raw = net.connect(port, '127.0.0.1').on('error', () => {});
      t.teardown(() => raw.destroy());
      const socket = secure ? tls.connect({ socket: raw, ...trust }).on('error', () => {}) : raw;
      socket.write(`${method} / HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(QUEUED + 1));
      await until(
        'all requests have arrived',
        () => responses.length,
        (count) => count === QUEUED + 1,
      );
      return raw;
    },
  };
}

for (const [way, send] of Object.entries(WAYS)) {
  for (const [method, secure] of [
    ['GET', false],
    ['HEAD', false],
    ['GET', true],
  ] as const) {
    const kind = `${secure ? 'HTTPS ' : ''}${method}`;
    test(`${way}: queued responses to ${kind} fail when their client resets, and every file is closed`, async (t) => {
      const { path } = sample(t, 100_000);
      const { connect, responses } = await pipeline(t, secure);
      const raw = await connect(method);
      const transfers = responses.slice(1).map((response) => send(t, path, response));
      // Some wait for their files, the others for their turn.
      await new Promise((resolve) => setTimeout(resolve, 50));
      raw.resetAndDestroy();
      const results = await within(20_000, 'all transfers settle', Promise.all(transfers));
      if (method === 'GET') {
        for (const { error } of results) t.is(error?.side, 'destination', String(error));
      }
      if (way === 'sendFile of a path') {
        await until(
          'the files are closed',
          () => [...openDescriptors().values()].filter((target) => target === path).length,
          (count) => count === 0,
        );
      }
      t.deepEqual(leaks, []);
    });
  }

  test(`${way}: idleTimeout ends a queued response whose turn does not come`, async (t) => {
    const { path } = sample(t, 100_000);
    const { connect, responses } = await pipeline(t, false);
    await connect();
    const transfers = responses.slice(1).map((response) => send(t, path, response, 100));
    const results = await within(20_000, 'all transfers settle', Promise.all(transfers));
    for (const { error } of results) t.is(error?.code, 'ERR_IDLE_TIMEOUT');
  });

  test(`${way}: a queued response that is destroyed fails at once, and says why`, async (t) => {
    const { path } = sample(t, 100_000);
    const { connect, responses } = await pipeline(t, false);
    await connect();
    const cause = new Error('not wanted any more');
    const [, early, late] = responses as [ServerResponse, ServerResponse, ServerResponse];
    const transfers = [early, late].map((response) =>
      send(
        t,
        path,
        response.on('error', () => {}),
      ),
    );
    early.destroy(cause);
    await new Promise((resolve) => setTimeout(resolve, 50));
    late.destroy(cause);
    const results = await within(20_000, 'both transfers settle', Promise.all(transfers));
    for (const { error } of results) t.like(error, { side: 'destination', cause });
  });

  test(`${way}: a queued response whose client has already reset fails at once`, async (t) => {
    const { path } = sample(t, 100_000);
    const { connect, responses } = await pipeline(t, false);
    const raw = await connect();
    const lost = once(responses[0] as ServerResponse, 'close');
    raw.resetAndDestroy();
    await within(20_000, 'the server notices', lost);
    const transfers = responses.slice(1).map((response) => send(t, path, response));
    const results = await within(20_000, 'all transfers settle', Promise.all(transfers));
    for (const { error } of results) t.is(error?.side, 'destination', String(error));
  });
}

test('idleTimeout ends queued responses to HEAD, too', async (t) => {
  const { path } = sample(t, 1000);
  const { connect, responses } = await pipeline(t, false);
  await connect('HEAD');
  const transfers = responses
    .slice(1)
    .map((response) => sendFile(path, response, { idleTimeout: 100, reject: false }));
  const results = await within(20_000, 'all transfers settle', Promise.all(transfers));
  for (const { error, tx } of results) t.deepEqual([error?.code, tx], ['ERR_IDLE_TIMEOUT', 0]);
});

test('a response that gets its turn is sent, although its transfer was waiting', async (t) => {
  const { path } = sample(t, 1000);
  const { connect, responses } = await pipeline(t, false);
  const raw = await connect();
  const transfers = responses.slice(1).map((response) => sendFile(path, response));
  raw.resume();
  responses[0]?.end();
  const results = await within(20_000, 'all transfers settle', Promise.all(transfers));
  t.deepEqual(
    results.map(({ tx }) => tx),
    Array(QUEUED).fill(1000),
  );
});

for (const verb of ['sendFile', 'copy'] as const) {
  for (const method of ['GET', 'HEAD']) {
    test(`HTTP/2: ${verb} of nothing into a response to ${method} that was closed before fails`, async (t) => {
      const { path } = sample(t, 0);
      const outcome = deferred<TransferError | null>();
      const client = await http2Client(t, (_request, response) => {
        response.stream
          .on('error', () => {})
          .on('close', () => {
            const options = { endDestination: true, reject: false };
            const transfer =
              verb === 'copy'
                ? copy(new PassThrough().end(), response, options)
                : sendFile(path, response, options);
            void transfer.then(({ error }) => outcome.resolve(error));
          });
      });
      const request = client.request({ ':method': method });
      request.on('error', () => {});
      request.close(http2.constants.NGHTTP2_CANCEL);
      const error = await within(20_000, 'the transfer settles', outcome.promise);
      t.is(error?.side, 'destination', String(error));
    });
  }
}

test('a stream that is destroyed while the file is being opened fails the transfer, also of an empty file', async (t) => {
  const { path } = sample(t, 0);
  const stream = new Writable({ write: (_chunk, _encoding, done) => done() });
  const transfer = sendFile(path, stream, { endDestination: true, reject: false });
  stream.destroy();
  const { error } = await within(20_000, 'the transfer settles', transfer);
  t.is(error?.side, 'destination', String(error));
});
