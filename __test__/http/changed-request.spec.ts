// Programs change `req.method`, `res.statusCode` or `res.req` while a response is served, as middleware does that serves
// HEAD as GET. Node decides whether a response has a body when it makes the response and its headers. A transfer must
// follow that decision: a body where the client expects none would be taken for the next response.
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import http, { type RequestListener, ServerResponse } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type TrafficResult } from 'fdsplice';

import { opened, sample } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, within } from '../helpers/wait.js';
import { exchanged, http2Client, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

const SIZE = 1000;

type Send = (t: ExecutionContext, path: string, response: ServerResponse) => Promise<TrafficResult>;

const VERBS: Record<string, Send> = {
  'sendFile of a path': (_t, path, response) => sendFile(path, response),
  'sendFile of a number': (t, path, response) => sendFile(opened(t, path), response),
  'copy of a file': (t, path, response) => copy(opened(t, path), response, { endDestination: true }),
  'copy of a stream': (_t, path, response) =>
    copy(createReadStream(path), response, { endDestination: true }),
};

/** The responses in what one connection received: head and body each. */
function responsesIn(received: string): { head: string; body: string }[] {
  return received
    .split(/(?=HTTP\/1\.1 \d{3} )/)
    .map((text) => text.split('\r\n\r\n'))
    .map(([head = '', ...body]) => ({ head, body: body.join('\r\n\r\n') }));
}

for (const [verb, send] of Object.entries(VERBS)) {
  for (const framing of ['a Content-Length', 'chunks', 'compression'] as const) {
    test(`${verb} with ${framing} sends no body for HEAD, although middleware has set req.method to GET`, async (t) => {
      const { path } = sample(t, SIZE);
      const { port } = await site(t, (request, response) => {
        request.method = 'GET';
        if (framing === 'a Content-Length') response.setHeader('Content-Length', SIZE);
        if (framing === 'chunks') response.setHeader('Transfer-Encoding', 'chunked');
        if (framing === 'compression') {
          const write = response.write.bind(response);
          response.write = ((...args: Parameters<typeof write>) => write(...args)) as typeof write;
        }
        void send(t, path, response);
      });
      const received = await exchanged(port, 'HEAD /', 'HEAD /');
      t.deepEqual(
        responsesIn(received).map(({ body }) => body),
        ['', ''],
      );
    });
  }

  test(`${verb} sends the body for GET, although a program has set req.method to HEAD`, async (t) => {
    const { path, bytes } = sample(t, SIZE);
    const results: TrafficResult[] = [];
    const { port } = await site(t, (request, response) => {
      request.method = 'HEAD';
      response.setHeader('Content-Length', SIZE);
      void send(t, path, response).then((result) => results.push(result));
    });
    const received = await exchanged(port, 'GET /', 'GET /');
    for (const body of received.split(/HTTP\/1\.1 200 OK\r\n/).slice(1)) {
      t.is(body.slice(body.indexOf('\r\n\r\n') + 4), bytes.toString('latin1'));
    }
    t.deepEqual(
      results.map(({ tx }) => tx),
      [SIZE, SIZE],
    );
  });

  for (const [changed, change] of [
    [
      'res.req is replaced',
      (response: ServerResponse) => Object.assign(response, { req: { method: 'GET' } }),
    ],
    ['res.req is removed', (response: ServerResponse) => Reflect.deleteProperty(response, 'req')],
    [
      'the status is set to 200 after the headers of a 304',
      (response: ServerResponse) => {
        response.writeHead(304, { 'Content-Length': SIZE });
        response.statusCode = 200;
      },
    ],
  ] as const) {
    test(`${verb} sends no body for HEAD when ${changed}`, async (t) => {
      const { path } = sample(t, SIZE);
      const { port } = await site(t, (_request, response) => {
        change(response);
        if (!response.headersSent) response.setHeader('Content-Length', SIZE);
        void send(t, path, response);
      });
      const received = await exchanged(port, 'HEAD /', 'HEAD /');
      t.deepEqual(
        responsesIn(received).map(({ body }) => body),
        ['', ''],
      );
    });
  }

  test(`${verb} sends no body behind the headers of a 304 to GET when the status is set to 200 later`, async (t) => {
    const { path } = sample(t, SIZE);
    const { port } = await site(t, (_request, response) => {
      response.writeHead(304, { 'Content-Length': SIZE });
      response.statusCode = 200;
      void send(t, path, response);
    });
    const received = await exchanged(port, 'GET /', 'GET /');
    t.deepEqual(
      responsesIn(received).map(({ body }) => body),
      ['', ''],
    );
  });

  test(`${verb} sends the body behind the headers of a 200 when the status is set to 304 later`, async (t) => {
    const { path, bytes } = sample(t, SIZE);
    const { port } = await site(t, (_request, response) => {
      response.writeHead(200, { 'Content-Length': SIZE });
      response.statusCode = 304;
      void send(t, path, response);
    });
    const received = await exchanged(port, 'GET /', 'GET /');
    t.is(received.match(/HTTP\/1\.1 200/g)?.length, 2);
    t.true(received.endsWith(bytes.toString('latin1')));
  });
}

test('a response made by hand for HEAD gets no body', async (t) => {
  const { path } = sample(t, SIZE);
  const done = deferred<number>();
  const server = net.createServer((socket) => {
    socket.on('error', () => {}).resume();
    const request = new http.IncomingMessage(socket);
    Object.assign(request, { method: 'HEAD', httpVersionMajor: 1, httpVersionMinor: 1 });
    const response = new ServerResponse(request);
    request.method = 'GET';
    response.assignSocket(socket);
    response.setHeader('Content-Length', SIZE);
    void sendFile(path, response).then(({ tx }) => {
      done.resolve(tx);
      socket.end();
    });
  });
  const port = await listening(t, server);
  t.regex(await exchanged(port, 'HEAD /'), /\r\n\r\n$/);
  t.is(await within(20_000, 'the file is sent', done.promise), 0);
});

test('HEAD of HTTP/1.0 gets no body when middleware has set req.method to GET', async (t) => {
  const { path } = sample(t, SIZE);
  const { port } = await site(t, (request, response) => {
    request.method = 'GET';
    void sendFile(path, response);
  });
  const received = await exchanged(port, 'HEAD / HTTP/1.0');
  t.regex(received, /content-length: 1000\r\n/i);
  t.true(received.endsWith('\r\n\r\n'));
});

async function overTls(t: ExecutionContext, handler: RequestListener): Promise<number> {
  return listening(t, https.createServer(identity, handler));
}

test('HTTPS: HEAD gets no body when middleware has set req.method to GET', async (t) => {
  const { path } = sample(t, SIZE);
  const port = await overTls(t, (request, response) => {
    request.method = 'GET';
    void sendFile(path, response);
  });
  const socket = tls.connect({ port, host: '127.0.0.1', ...trust });
  socket.write('HEAD / HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const received = Buffer.concat(chunks).toString('latin1');
  t.deepEqual(
    responsesIn(received).map(({ body }) => body),
    ['', ''],
  );
});

for (const verb of ['sendFile', 'copy'] as const) {
  for (const [method, changed, length] of [
    ['HEAD', 'GET', 0],
    ['GET', 'HEAD', SIZE],
  ] as const) {
    test(`HTTP/2: ${verb} answers ${method} as such when req.method was set to ${changed}`, async (t) => {
      const { path } = sample(t, SIZE);
      const outcome = deferred<TrafficResult>();
      const client = await http2Client(t, (request, response) => {
        Object.assign(request, { method: changed });
        response.setHeader('Content-Length', SIZE);
        const transfer =
          verb === 'copy'
            ? copy(createReadStream(path), response, { endDestination: true, reject: false })
            : sendFile(path, response, { reject: false });
        void transfer.then((result) => outcome.resolve(result));
      });
      const request = client.request({ ':method': method });
      let got = 0;
      request.on('data', (chunk: Buffer) => (got += chunk.length));
      const [headers] = (await within(20_000, 'the headers arrive', once(request, 'response'))) as [
        IncomingHttpHeaders,
      ];
      await within(20_000, 'the stream is closed', once(request, 'close'));
      t.is(headers['content-length'], String(SIZE));
      t.is(got, length);
      const { tx, error } = await within(20_000, 'the transfer settles', outcome.promise);
      t.deepEqual([tx, error], [length, null]);
    });
  }
}
