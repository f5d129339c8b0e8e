// File systems that stop answering, as FUSE and NFS do. Limits and aborts end a transfer whose call hangs. The thread and
// the descriptors of the call are released when it returns, and its late result is discarded.
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, stats, type Transfer } from 'fdsplice';

import { isNative } from '../helpers/engine.js';
import { failure, PROMPT_MS } from '../helpers/failure.js';
import { Fuse, fuseTest } from '../helpers/fuse.js';
import { nothingIsLeft } from '../helpers/left.js';
import { until, within } from '../helpers/wait.js';
import { get, listening, site } from '../http/site.js';

const KiB = 1024;
const MiB = KiB * KiB;

nothingIsLeft(test, 'behind each test');

/** The two ends of a TCP connection. */
async function connection(t: ExecutionContext): Promise<{ near: net.Socket; far: net.Socket }> {
  const server = net.createServer();
  const port = await listening(t, server);
  const far = net.connect(port, '127.0.0.1').on('error', () => {});
  const [near] = (await once(server, 'connection')) as [net.Socket];
  near.on('error', () => {});
  t.teardown(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
}

/** The position of an open file. */
function positionOf(fd: number): number {
  return Number(/^pos:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]);
}

/** How a transfer is ended whose call hangs. */
interface Stop {
  code: string;
  options: { idleTimeout?: number; signal?: AbortSignal };
  stop: (transfer: Transfer) => void;
}

function stops(): Stop[] {
  const controller = new AbortController();
  return [
    { code: 'ERR_IDLE_TIMEOUT', options: { idleTimeout: 300 }, stop: () => {} },
    { code: 'ABORT_ERR', options: {}, stop: (transfer) => transfer.abort() },
    { code: 'ABORT_ERR', options: { signal: controller.signal }, stop: () => controller.abort() },
  ];
}

/** Ends a transfer whose call hangs, and returns its error. */
async function ended(t: ExecutionContext, transfer: Transfer, stop: (transfer: Transfer) => void) {
  stop(transfer);
  return failure(t, transfer);
}

fuseTest('files whose inodes have long numbers are copied to each other by their paths', async (t, fuse) => {
  const [source, to] = [fuse.file(100), fuse.file(1)];
  t.is((await copy(source, to)).tx, 100);
  const error = await t.throwsAsync(copy(source, source));
  t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE');
});

for (const [operation, size] of [
  ['lookup', 100],
  ['open', 100],
  ['read', 100],
  ['read', 2 * MiB],
] as const) {
  fuseTest(
    `a copy between paths is ended while the ${operation} of its source of ${size} bytes hangs`,
    async (t, fuse) => {
      const folder = mkdtempSync(join(tmpdir(), 'fdsplice-hang-'));
      t.teardown(() => rmSync(folder, { recursive: true }));
      await fuse.hang(operation);
      for (const [index, { code, options, stop }] of stops().entries()) {
        const to = join(folder, `${index}`);
        const transfer = copy(fuse.file(size), to, options);
        await fuse.hasHeld(index + 1);
        const error = await within(PROMPT_MS, 'the copy ends', ended(t, transfer, stop));
        t.deepEqual([error.code, error.traffic.total], [code, 0]);
        t.is(existsSync(to), operation === 'read');
      }
      await fuse.release();
      await until(
        'the calls return',
        () => stats().threads.stuck,
        (stuck) => stuck === 0,
      );
      for (const [index] of stops().entries()) {
        const to = join(folder, `${index}`);
        if (operation === 'read') t.is(readFileSync(to).length, 0);
        else t.false(existsSync(to), 'nothing is created after the end');
      }
    },
  );
}

fuseTest(
  'a copy between a path that hangs and a socket is ended, and the socket stays usable',
  async (t, fuse) => {
    await fuse.hang('open');
    for (const [index, { code, options, stop }] of stops().entries()) {
      const { near, far } = await connection(t);
      far.write('bytes');
      const isSource = index % 2 === 0;
      const transfer = isSource
        ? copy(fuse.file(100), near, options)
        : copy(near, fuse.file(100), { ...options, position: 0 });
      await fuse.hasHeld(index + 1);
      const error = await within(PROMPT_MS, 'the copy ends', ended(t, transfer, stop));
      t.deepEqual([error.code, error.traffic.total], [code, 0]);
      near.write('answer');
      t.is(String((await once(far, 'data'))[0]), 'answer');
      t.is(String((await once(near, 'data'))[0]), 'bytes');
    }
    await fuse.release();
  },
);

for (const [operation, size] of [
  ['lookup', 100],
  ['open', 100],
  ['read', 100],
  ['read', 2 * MiB],
  ['flush', 100],
] as const) {
  const call = `${operation} of a file of ${size} bytes`;
  fuseTest(`a response whose ${call} hangs is ended by an idle timeout and by an abort`, async (t, fuse) => {
    await fuse.hang(operation);
    for (const [index, { code, options, stop }] of stops().entries()) {
      let transfer: Transfer | undefined;
      let isOpen = false;
      const at = await site(t, (_request, response) => {
        transfer = sendFile(fuse.file(size), response, options);
        transfer.catch(() => {
          isOpen = !response.headersSent;
          if (isOpen) response.writeHead(504).end('too late');
        });
      });
      const answer = get(at).catch((error: Error) => error);
      await fuse.hasHeld(index + 1);
      if (transfer === undefined) throw new Error('no request');
      if (operation === 'flush' && !isNative) {
        // The file is closed behind the last byte, which the client has got.
        t.is((await transfer).total, size);
        continue;
      }
      t.is((await ended(t, transfer, stop)).code, code);
      const answered = await within(PROMPT_MS, 'the client gets an answer', answer);
      if (isOpen) t.like(answered, { status: 504 });
      else t.true(answered instanceof Error, JSON.stringify(answered));
    }
    t.true(stats().threads.stuck > 0);
    await fuse.release();
    await until(
      'no call hangs',
      () => stats().threads.stuck,
      (stuck) => stuck === 0,
    );
  });
}

for (const [name, options] of [
  ['without a rate limit', {}],
  ['with a rate limit', { rateLimit: 100 * MiB }],
  ['through a buffer', { zeroCopy: false }],
] as const) {
  fuseTest(
    `a socket whose file hangs midway is broken off, and gets no late byte, ${name}`,
    async (t, fuse) => {
      const handle = await open(fuse.file(4 * MiB));
      await fuse.hang('read', MiB);
      const { near, far } = await connection(t);
      const received: Buffer[] = [];
      far.on('data', (chunk: Buffer) => received.push(chunk));
      const closed = new Promise((resolve) => far.once('close', resolve));
      const error = await failure(t, sendFile(handle, near, { ...options, idleTimeout: 500 }));
      t.is(error.code, 'ERR_IDLE_TIMEOUT');
      // The position of the file is behind the last byte that was sent.
      if (isNative) t.is(positionOf(handle.fd), error.traffic.total);
      near.destroy();
      await within(PROMPT_MS, 'the connection ends', closed);
      await fuse.release();
      await until(
        'no call hangs',
        () => stats().threads.stuck,
        (stuck) => stuck === 0,
      );
      const bytes = Buffer.concat(received);
      t.true(bytes.length <= MiB && bytes.equals(Fuse.content(bytes.length)));
      t.true(error.traffic.total <= MiB);
      await handle.close();
    },
  );
}

fuseTest('a copy into a file whose write hangs is ended, and its source is broken off', async (t, fuse) => {
  const handle = await open(fuse.file(0), 'r+');
  await fuse.hang('write');
  const { near, far } = await connection(t);
  const closed = new Promise((resolve) => far.once('close', resolve));
  far.write(Buffer.alloc(MiB));
  const transfer = copy(near, handle);
  await fuse.hasHeld();
  t.is((await ended(t, transfer, () => transfer.abort())).code, 'ABORT_ERR');
  near.destroy();
  await within(PROMPT_MS, 'the connection ends', closed);
  await fuse.release();
  await handle.close();
});

fuseTest(
  'a copy between files is ended when either of them hangs, and the descriptors stay usable',
  async (t, fuse) => {
    const folder = mkdtempSync(join(tmpdir(), 'fdsplice-hang-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'file'), Buffer.alloc(MiB, 1));
    for (const [operation, source, destination] of [
      ['read', fuse.file(MiB), join(folder, 'file')],
      ['write', join(folder, 'file'), fuse.file(0)],
    ] as const) {
      const [from, to] = [await open(source), await open(destination, 'r+')];
      await fuse.hang(operation);
      const error = await failure(t, copy(from, to, { idleTimeout: 500 }));
      t.is(error.code, 'ERR_IDLE_TIMEOUT');
      await fuse.release();
      await until(
        'no call hangs',
        () => stats().threads.stuck,
        (stuck) => stuck === 0,
      );
      const { total } = await copy(from, to, { start: 0, position: 0, length: 1000 });
      t.is(total, 1000);
      await Promise.all([from.close(), to.close()]);
    }
  },
);

fuseTest(
  'an answer to HEAD, and to GET with a FileHandle, is ended while the status hangs',
  async (t, fuse) => {
    const handle = await open(fuse.file(1000));
    await fuse.hang('getattr');
    for (const [method, file] of [
      ['HEAD', fuse.file(1000)],
      ['GET', handle],
    ] as const) {
      // Without the core, the status of a descriptor is queried on the thread of JavaScript.
      if (!isNative && file === handle) continue;
      const at = await site(t, (_request, response) => {
        sendFile(file, response, { idleTimeout: 300 }).catch(() => response.writeHead(504).end());
      });
      t.is((await get(at, { method })).status, 504);
    }
    await fuse.release();
    await handle.close();
  },
);

if (isNative) {
  fuseTest(
    'a copy of a FileHandle whose status hangs does not block the thread of JavaScript',
    async (t, fuse) => {
      const handle = await open(fuse.file(1000));
      await fuse.hang('getattr');
      const { near, far } = await connection(t);
      far.resume();
      t.is((await copy(handle, near, { start: 0, length: 1000 })).total, 1000);
      const at = await site(t, (_request, response) => {
        response.strictContentLength = true;
        response.setHeader('Content-Length', 1000);
        void copy(handle, response, { start: 0, length: 1000, endDestination: true });
      });
      t.is((await get(at)).body.length, 1000);
      await fuse.release();
      await handle.close();
    },
  );

  fuseTest(
    'files elsewhere are served while more files hang than there are threads for them',
    async (t, fuse) => {
      const folder = mkdtempSync(join(tmpdir(), 'fdsplice-hang-'));
      t.teardown(() => rmSync(folder, { recursive: true }));
      for (const size of [KiB, MiB]) writeFileSync(join(folder, `${size}`), Buffer.alloc(size, 1));
      await fuse.hang('open');
      const controller = new AbortController();
      const { signal } = controller;
      const hanging = await Promise.all(
        Array.from({ length: 40 }, async () => {
          const { near } = await connection(t);
          return sendFile(fuse.file(100), near, { signal, reject: false });
        }).map((transfer) => Promise.race([transfer, Promise.resolve()])),
      );
      t.is(hanging.length, 40);
      await fuse.hasHeld(16);
      for (const size of [KiB, MiB]) {
        const at = await site(t, (_request, response) => void sendFile(join(folder, `${size}`), response));
        const { body } = await get(at);
        t.is(body.length, size);
      }
      t.true(stats().threads.awaited >= 24);
      controller.abort();
      await until(
        'the calls that wait are given up',
        () => stats().threads,
        ({ awaited, stuck }) => awaited === 0 && stuck === 16,
      );
      await fuse.release();
    },
  );

  fuseTest('a worker thread ends while a file hangs', async (t, fuse) => {
    await fuse.hang('open');
    const hang = `
      import net from 'node:net';
      import { sendFile } from 'fdsplice';
      const server = net.createServer((socket) => sendFile(${JSON.stringify(fuse.file(100))}, socket).catch(() => {}));
      server.listen(0, () => net.connect(server.address().port).on('error', () => {}));`;
    const worker = new Worker(hang, { eval: true, execArgv: ['--input-type=module'] });
    await fuse.hasHeld();
    await within(PROMPT_MS, 'the worker ends', worker.terminate());
    t.pass();
    await fuse.release();
  });
}
