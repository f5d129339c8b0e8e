// Streams that a program pipes into a response after sendStream(response): which of them the core sends, and what stays as
// without the adapter.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs, { createReadStream, openSync, readFileSync, type ReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { PassThrough, pipeline } from 'node:stream';
import { createGzip, gunzipSync } from 'node:zlib';

import test, { type ExecutionContext } from 'ava';
import { stats } from 'fdsplice';
import { sendStream } from 'fdsplice/send';

import { started } from '../helpers/copy-child.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { deferred, until, within } from '../helpers/wait.js';
import { exchanged, get, type Site, site } from '../http/site.js';
import { publicFolder, SIZE } from './sites.js';

nothingIsLeft(test, 'behind all tests');

type Handler = (response: ServerResponse, file: string, request: IncomingMessage) => void;

interface Prepared extends Site {
  bytes: Buffer;
  file: string;
}

async function prepared(t: ExecutionContext, handler: Handler): Promise<Prepared> {
  const file = join(publicFolder(t), 'big.bin');
  const place = await site(t, (request, response) => {
    sendStream(response);
    handler(response, file, request);
  });
  return { ...place, file, bytes: readFileSync(file) };
}

/** A stream of the file with a fixed length. */
function stream(response: ServerResponse, file: string, options?: object): ReadStream {
  response.setHeader('Content-Length', SIZE);
  return createReadStream(file, options);
}

const SENT: Record<string, Handler> = {
  'a stream of a path': (response, file) => void stream(response, file).pipe(response),
  'a stream that was open before': (response, file) => {
    const source = stream(response, file);
    source.once('ready', () => source.pipe(response));
  },
  'a stream of a descriptor': (response, file) =>
    void stream(response, '', { fd: openSync(file, 'r') }).pipe(response),
  'a stream in a pipeline': (response, file) => void pipeline(stream(response, file), response, () => {}),
  'a stream whose headers are out': (response, file) => {
    response.writeHead(200, { 'Content-Length': SIZE });
    createReadStream(file).pipe(response);
  },
  'two streams, one after the other': (response, file) => {
    const middle = 400_000;
    response.setHeader('Content-Length', SIZE);
    const first = createReadStream(file, { end: middle - 1 });
    first.on('end', () => createReadStream(file, { start: middle }).pipe(response));
    first.pipe(response, { end: false });
  },
  'two files in one body': (response, file) => {
    response.setHeader('Content-Length', SIZE);
    const first = createReadStream(file, { start: 0, end: 400_000 });
    first.on('end', () => response.write(readFileSync(file).subarray(400_001, 400_010)));
    first.on('end', () => createReadStream(file, { start: 400_010 }).pipe(response));
    first.pipe(response, { end: false });
  },
};

for (const [name, handler] of Object.entries(SENT)) {
  test.serial(`${name} is sent by the core`, async (t) => {
    const place = await prepared(t, handler);
    const before = stats().tx;
    for (let fetched = 0; fetched < 2; fetched += 1) t.true((await get(place)).body.equals(place.bytes));
    const missing = name.startsWith('two files') ? 9 : 0;
    t.is(stats().tx - before, isNative ? 2 * (SIZE - missing) : 0);
  });
}

/** A file system that hands out the descriptors of another. */
const otherFileSystem = { open: fs.open, read: fs.read, close: fs.close };

const LEFT: Record<string, Handler> = {
  'a small file': (response, file) => {
    response.setHeader('Content-Length', SIZE);
    const first = createReadStream(file, { start: 0, end: 131_071 });
    first.on('end', () => response.end(readFileSync(file).subarray(131_072)));
    first.pipe(response, { end: false });
  },
  'a stream with an encoding': (response, file) => {
    response.setHeader('Content-Length', 2 * SIZE);
    createReadStream(file).setEncoding('hex').pipe(response);
  },
  'a stream with another listener': (response, file) => {
    const source = stream(response, file);
    const hash = createHash('sha256');
    source.pipe(response);
    source.on('data', (chunk) => hash.update(chunk));
  },
  'a stream with another pipe': (response, file) => {
    const source = stream(response, file);
    source.pipe(new PassThrough().resume());
    source.pipe(response);
  },
  'a stream of another file system': (response, file) =>
    void stream(response, file, { fs: otherFileSystem }).pipe(response),
  'a stream of a FileHandle': (response, file) => {
    void open(file).then((handle) => handle.createReadStream().pipe(response));
    response.setHeader('Content-Length', SIZE);
  },
  'a stream of a subclass': (response, file) => {
    class Other extends fs.ReadStream {}
    response.setHeader('Content-Length', SIZE);
    new (Other as unknown as new (path: string) => ReadStream)(file).pipe(response);
  },
  'a chunked response': (response, file) => void createReadStream(file).pipe(response),
  'a response whose write was replaced': (response, file) => {
    const write = response.write.bind(response) as (chunk: Buffer) => boolean;
    Object.assign(response, { write });
    stream(response, file).pipe(response);
  },
};

for (const [name, handler] of Object.entries(LEFT)) {
  test.serial(`${name} is left to the stream`, async (t) => {
    const place = await prepared(t, handler);
    const before = stats().tx;
    for (let fetched = 0; fetched < 2; fetched += 1) {
      const { body } = await get(place);
      const found = body.length === 2 * SIZE ? Buffer.from(body.toString(), 'hex') : body;
      t.true(found.equals(place.bytes));
    }
    t.is(stats().tx - before, 0);
  });
}

test.serial('a compressing stream between file and response is left to itself', async (t) => {
  const place = await prepared(t, (response, file) => {
    createReadStream(file).pipe(createGzip()).pipe(response);
  });
  t.true(gunzipSync((await get(place)).body).equals(place.bytes));
});

test.serial('a stream of a FIFO is sent by the stream', async (t) => {
  const place = await prepared(t, (response, file) => {
    const fifo = `${file}.fifo`;
    spawnSync('mkfifo', [fifo]);
    stream(response, fifo).pipe(response);
    started(t, 'sh', ['-c', `cat '${file}' > '${fifo}'`], 'ignore');
  });
  t.true((await get(place)).body.equals(place.bytes));
});

test.serial('pipelined responses arrive in order and complete', async (t) => {
  const { port, bytes } = await prepared(t, (response, file, { url }) => {
    if (url === '/big') stream(response, file).pipe(response);
    else response.end('small');
  });
  const received = await exchanged(port, 'GET /big', 'GET /small', 'HEAD /big', 'GET /big', 'GET /small');
  const big = bytes.toString('latin1');
  const bodies = received.split(/HTTP\/1\.1 200 OK\r\n[^]*?\r\n\r\n/).slice(1);
  t.is(bodies.length, 5);
  t.true(
    [big, '5\r\nsmall\r\n0\r\n\r\n', '', big].every((body, index) => index === 1 || bodies[index] === body),
  );
  t.true(bodies[1]?.includes('small'));
  t.true(bodies[4]?.includes('small'));
});

test.serial('a closing server completes the response', async (t) => {
  const closed = deferred<void>();
  const file = join(publicFolder(t), 'big.bin');
  fs.writeFileSync(file, Buffer.alloc(32 << 20));
  const { createServer } = await import('node:http');
  const server = createServer((_request, response) => {
    sendStream(response);
    response.setHeader('Content-Length', 32 << 20);
    response.setHeader('Connection', 'close');
    createReadStream(file).pipe(response);
    server.close(() => closed.resolve());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  t.is((await exchanged(port, 'GET /')).split('\r\n\r\n')[1]?.length, 32 << 20);
  await within(20_000, 'the server has closed', closed.promise);
});

for (const adapter of [false, true]) {
  test.serial(`an owner that destroys the stream stops the body; adapter: ${adapter}`, async (t) => {
    const seen: string[] = [];
    const done = deferred<void>();
    const file = join(publicFolder(t), 'big.bin');
    fs.writeFileSync(file, Buffer.alloc(64 << 20));
    const { port } = await site(t, (_request, response) => {
      if (adapter) sendStream(response);
      response.setHeader('Content-Length', 64 << 20);
      const source = createReadStream(file);
      source.on('error', (error) => seen.push(`error ${error.message}`)).on('end', () => seen.push('end'));
      source.on('close', () => {
        seen.push('close');
        done.resolve();
        response.on('close', () => seen.push('response closed')).destroy();
      });
      source.pipe(response);
      source.once('ready', () => setImmediate(() => source.destroy(new Error('stopped'))));
    });
    const received = await exchanged(port, 'GET /');
    await within(20_000, 'the stream is closed', done.promise);
    t.true(received.length < 64 << 20);
    t.deepEqual(seen.slice(0, 2), ['error stopped', 'close']);
    t.false(seen.includes('end'));
  });
}

nativeTest('the stream counts what was sent for it', async (t) => {
  const counts: number[] = [];
  const place = await prepared(t, (response, file) => {
    const source = stream(response, file);
    source.on('end', () => counts.push(source.bytesRead));
    source.pipe(response);
  });
  await get(place);
  await until(
    'the stream has ended',
    () => counts,
    ({ length }) => length > 0,
  );
  t.deepEqual(counts, [SIZE]);
});

nativeTest('without a free descriptor for the core the stream sends the file itself', async (t) => {
  const closed = deferred<void>();
  const place = await prepared(t, (response, file) => {
    const source = stream(response, file);
    const taken: number[] = [];
    source.once('open', () => {
      try {
        for (;;) taken.push(openSync('/dev/null', 'r'));
      } catch {
        // No descriptor is left.
      }
    });
    source.once('close', () => {
      for (const fd of taken) fs.closeSync(fd);
      closed.resolve();
    });
    source.pipe(response);
  });
  const { body } = await get(place);
  await within(20_000, 'the stream is closed', closed.promise);
  t.true(body.equals(place.bytes));
});

nativeTest(
  'a file shorter than the announced length ends the connection if nobody listens for errors',
  async (t) => {
    const place = await prepared(t, (response, file) => {
      stream(response, file)
        .on('open', () => fs.truncateSync(file, 500_000))
        .pipe(response);
    });
    await t.throwsAsync(get(place), { code: 'ECONNRESET' });
  },
);

nativeTest('a stream that its owner pauses before it is open waits for the owner', async (t) => {
  const outcomes: unknown[] = [];
  const place = await prepared(t, (response, file) => {
    const source = stream(response, file);
    pipeline(source, response, (error) => outcomes.push(error ?? 'complete'));
    source.pause();
    source.once('ready', () => setImmediate(() => source.resume()));
  });
  const before = stats().tx;
  t.true((await get(place)).body.equals(place.bytes));
  await until(
    'the pipeline is over',
    () => outcomes,
    ({ length }) => length > 0,
  );
  t.deepEqual(outcomes, ['complete']);
  t.is(stats().tx, before);
});

for (const gone of ['before the stream is piped', 'before the stream is open']) {
  nativeTest(`the stream is closed if the response was closed ${gone}`, async (t) => {
    const closed = deferred<void>();
    const place = await prepared(t, (response, file) => {
      const source = stream(response, file).on('close', closed.resolve);
      if (gone === 'before the stream is open') source.pipe(response);
      else response.on('close', () => source.pipe(response));
      response.destroy();
    });
    await t.throwsAsync(get(place), { code: 'ECONNRESET' });
    await within(20_000, 'the stream is closed', closed.promise);
  });
}
