// What the owner of a response writes before its first transfer counts as part of the announced body, without
// `strictContentLength` too.
import { channel } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import http, { type ServerResponse } from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type Transfer } from 'fdsplice';

import { directory, opened } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { identity } from '../helpers/tls.js';
import { deferred, within } from '../helpers/wait.js';
import { listening } from './site.js';

nothingIsLeft(test, 'behind all tests');

/** A file of 1,000 bytes. */
function file(t: ExecutionContext): string {
  const path = join(directory(t), 'file');
  writeFileSync(path, 'f'.repeat(1000));
  return path;
}

type Write = (response: ServerResponse, length: number) => Promise<void> | void;

/** Ways to write the headers and 10 bytes of the body. */
const WRITES: Record<string, Write> = {
  'in the same operation': (response, length) => {
    response.writeHead(200, { 'Content-Length': length });
    response.write('beginning:');
  },
  'as a buffer, behind headers in Latin-1': (response, length) => {
    response.writeHead(200, { 'Content-Length': length, 'X-Name': 'caf\u00e9' });
    response.write(Buffer.from('beginning:'));
  },
  'earlier, behind flushed headers': async (response, length) => {
    response.setHeader('Content-Length', length);
    response.flushHeaders();
    await sleep(5);
    response.write('b\u00e9ginning');
    await sleep(5);
  },
  'into a cork': (response, length) => {
    response.writeHead(200, { 'Content-Length': length });
    response.cork();
    response.write('beginning:');
  },
};

const VERBS: Record<string, (t: ExecutionContext, path: string, response: ServerResponse) => Transfer> = {
  'sendFile of a path': (_t, path, response) => sendFile(path, response, { reject: false }),
  'sendFile of a number': (t, path, response) => sendFile(opened(t, path), response, { reject: false }),
  copy: (t, path, response) => copy(opened(t, path), response, { endDestination: true, reject: false }),
};

/** The bodies of a plain response, of two that `write` and `send` make, and of a plain one, on one connection. */
async function bodies(
  t: ExecutionContext,
  isSecure: boolean,
  handler: (response: ServerResponse) => Promise<void>,
  { expects = false, pipelines = false },
): Promise<Buffer[]> {
  const server = isSecure ? https.createServer(identity) : http.createServer();
  server.on('request', (request, response) => {
    if (request.url === '/plain') response.end('plain');
    else void handler(response);
  });
  const port = await listening(t, server);
  const socket = isSecure ? tls.connect({ port, rejectUnauthorized: false }) : net.connect(port);
  t.teardown(() => void socket.destroy());
  const requests = ['/plain', '/', '/', '/plain'].map((path, index) => {
    const expect = expects && path === '/' ? 'Expect: 100-continue\r\n' : '';
    return `GET ${path} HTTP/1.1\r\nHost: x\r\n${index === 3 ? 'Connection: close\r\n' : ''}${expect}\r\n`;
  });
  const ended = deferred<void>();
  let received = '';
  socket.on('error', () => {}).on('close', () => ended.resolve());
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1');
    if (/(plain|:?f+)$/.test(received) && requests.length > 0) socket.write(requests.shift() ?? '');
  });
  socket.write(requests.splice(0, pipelines ? 4 : 1).join(''));
  await within(20_000, 'the connection ends', ended.promise);
  const parts = received
    .split(/HTTP\/1\.1 (?:200 OK|100 Continue)\r\n(?:.+\r\n)*\r\n/)
    .filter((part) => part !== '');
  return parts.map((part) => Buffer.from(part, 'latin1'));
}

for (const [when, write] of Object.entries(WRITES)) {
  for (const [verb, send] of Object.entries(VERBS)) {
    for (const [connection, options] of Object.entries({
      'one by one': {},
      pipelined: { pipelines: true },
      'with Expect: 100-continue': { expects: true },
      'over HTTPS': { isSecure: true },
    })) {
      test(`${verb} (${connection}) sends what the body lacks behind bytes written by the owner ${when}`, async (t) => {
        const path = file(t);
        const sent: number[] = [];
        const handler = async (response: ServerResponse) => {
          await write(response, 100);
          sent.push((await send(t, path, response)).tx);
        };
        const got = await bodies(t, 'isSecure' in options, handler, options);
        t.deepEqual(
          got.map(({ length }) => length),
          [5, 100, 100, 5],
        );
        t.deepEqual(sent, [90, 90]);
      });
    }
  }
}

test('a file that does not fill the body behind bytes written by the owner fails, and breaks the response off', async (t) => {
  const path = file(t);
  const codes: unknown[] = [];
  const got = await bodies(
    t,
    false,
    async (response) => {
      response.writeHead(200, { 'Content-Length': 1011 });
      response.write('beginning:');
      codes.push((await sendFile(path, response, { reject: false })).error?.code);
    },
    {},
  );
  t.is(got.length, 2);
  t.deepEqual(codes, ['ERR_SOURCE_TRUNCATED']);
});

test('a second copy of the package adds no second subscriber to the requests of the process', (t) => {
  const requests = channel('http.server.request.start') as unknown as { _subscribers?: unknown[] };
  const before = requests._subscribers?.length;
  const load = createRequire(import.meta.url);
  const main = load.resolve('fdsplice');
  const first = load(main) as object;
  delete load.cache[main];
  t.not(load(main), first);
  t.is(before, 1);
  t.is(requests._subscribers?.length, 1);
});
