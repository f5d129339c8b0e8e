// The values an access log reads in 'finish' and 'close' of a response whose body bypassed Node: they must be those of an
// ordinary response.
import { once } from 'node:events';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { sendFile, type TrafficResult } from 'fdsplice';

import { sample } from '../helpers/copy-files.js';
import { engine, isNative } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { deferred, until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

interface Entry {
  event: 'finish' | 'close';
  status: number;
  headersSent: boolean;
  length: unknown;
  writableEnded: boolean;
  writableFinished: boolean;
  /** Bytes the socket wrote since the request arrived, headers included. */
  sent: number;
}

/** Logs as loggers do: reads the socket's counts when the request arrives and when the response is over. */
function logged(response: ServerResponse, write: (entry: Entry) => void): void {
  const { socket } = response.req;
  const before = socket.bytesWritten;
  for (const event of ['finish', 'close'] as const) {
    response.once(event, () =>
      write({
        event,
        status: response.statusCode,
        headersSent: response.headersSent,
        length: response.getHeader('content-length'),
        writableEnded: response.writableEnded,
        writableFinished: response.writableFinished,
        sent: socket.bytesWritten - before,
      }),
    );
  }
}

interface Site {
  port: number;
  /** The log entries of the next request, up to its 'close'. */
  next: () => Promise<Entry[]>;
}

/** A server whose responses are logged before the handler gets them. */
async function site(t: ExecutionContext, handler: RequestListener): Promise<Site> {
  const closed: ReturnType<typeof deferred<Entry[]>>[] = [];
  let read = 0;
  const at = (index: number) => (closed[index] ??= deferred<Entry[]>());
  let requests = 0;
  const server = http.createServer((request, response) => {
    const { resolve } = at(requests++);
    const entries: Entry[] = [];
    logged(response, (entry) => {
      entries.push(entry);
      if (entry.event === 'close') resolve(entries);
    });
    handler(request, response);
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    next: () => within(30_000, 'the response is closed', at(read++).promise),
  };
}

/** Size of the whole answer, headers included; the connection stays open. */
async function exchanged(socket: net.Socket, request: string, isWhole: (text: string) => boolean) {
  let text = '';
  const whole = deferred<number>();
  const listen = (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (isWhole(text)) whole.resolve(text.length);
  };
  socket.on('data', listen);
  socket.write(request);
  const bytes = await within(30_000, 'an answer', whole.promise);
  socket.off('data', listen);
  return { bytes, headers: text.slice(0, text.indexOf('\r\n\r\n')) };
}

/** Whether the headers and `bytes` bytes of body have arrived. */
const withBody = (bytes: number) => (text: string) => {
  const end = text.indexOf('\r\n\r\n');
  return end >= 0 && text.length >= end + 4 + bytes;
};

async function connected(t: ExecutionContext, port: number): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

for (const [content, method, status, options, length, body] of [
  ['a whole file', 'GET', 200, {}, 200_000, 200_000],
  ['a range', 'GET', 206, { start: 1_000, end: 50_999 }, 50_000, 50_000],
  ['HEAD', 'HEAD', 200, {}, 200_000, 0],
  ['304', 'GET', 304, {}, undefined, 0],
] as const) {
  test(`an access log reads the status, the length and the bytes sent of each response: ${content}`, async (t) => {
    const { path } = sample(t, 200_000);
    const results: TrafficResult[] = [];
    const { port, next } = await site(t, (_request, response) => {
      response.statusCode = status;
      void sendFile(path, response, options).then((result) => results.push(result));
    });
    const socket = await connected(t, port);
    // All on one connection, so that counts of earlier responses would show.
    for (let round = 0; round < 3; round += 1) {
      const request = `${method} / HTTP/1.1\r\nHost: x\r\n\r\n`;
      const { bytes, headers } = await exchanged(socket, request, withBody(body));
      t.true(headers.startsWith(`HTTP/1.1 ${status} `), headers);
      const over = {
        status,
        headersSent: true,
        length,
        writableEnded: true,
        writableFinished: true,
        sent: bytes,
      };
      t.deepEqual(await next(), [
        { event: 'finish', ...over },
        { event: 'close', ...over },
      ]);
    }
    await until(
      'all results are in',
      () => results.length,
      (count) => count === 3,
    );
    for (const result of results) t.like(result, { tx: body, engine, error: null });
  });
}

test('an access log reads an unfinished response and the bytes sent when its client disconnects', async (t) => {
  const size = 30_000_000;
  const { path } = sample(t, size);
  const outcome = deferred<TrafficResult>();
  const { port, next } = await site(t, (_request, response) => {
    void sendFile(path, response, { reject: false }).then(outcome.resolve);
  });
  const socket = await connected(t, port);
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'readable');
  socket.resetAndDestroy();
  const entries = await next();
  const { tx, error } = await within(30_000, 'the transfer ends', outcome.promise);
  t.not(error, null);
  t.like(entries, { length: 1 });
  const [entry] = entries;
  t.like(entry, { event: 'close', status: 200, headersSent: true, length: size, writableFinished: false });
  // writableEnded distinguishes an unfinished response from a finished one.
  t.false(entry?.writableEnded);
  const sent = entry?.sent ?? 0;
  t.true(sent > tx && sent < size, `${sent} of which ${tx} of the body`);
  // Node also counts bytes in its queue; the core counts bytes that the connection accepted.
  if (isNative) t.true(sent - tx < 1_000, `${sent} of which ${tx} of the body`);
});

test('an access log reads every byte of a response that ends its connection', async (t) => {
  const { path } = sample(t, 100_000);
  const { port, next } = await site(t, (_request, response) => void sendFile(path, response));
  const request = http.get({ port, host: '127.0.0.1', agent: false });
  const [message] = (await within(30_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
  let bytes = 0;
  for await (const chunk of message) bytes += (chunk as Buffer).length;
  t.is(bytes, 100_000);
  const [finish, close] = await next();
  t.like(finish, { event: 'finish', length: 100_000, writableFinished: true });
  t.like(close, { event: 'close', sent: finish?.sent });
  t.true((finish?.sent ?? 0) > 100_000);
});
