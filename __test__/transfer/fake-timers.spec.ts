// Transfers while the tests of an application have replaced the timers and the clock, with Node's own `mock.timers` and with
// the library that sinon, jest and vitest use.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { mock } from 'node:test';
import { promisify } from 'node:util';

import FakeTimers from '@sinonjs/fake-timers';
import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, type TransferError } from 'fdsplice';

import { directory, KiB, MiB, opened, sample, sink } from '../helpers/copy-files.js';
import { curl } from '../helpers/curl.js';
import { nothingIsLeft } from '../helpers/left.js';

nothingIsLeft(test, 'behind each test');

/** Replaces the timers; returns a function that puts the real ones back. */
const FAKES: Record<string, () => () => void> = {
  'mock.timers': () => {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] });
    return () => mock.timers.reset();
  },
  'fake-timers': () => {
    // Node's own streams call `process.nextTick`, and would stop.
    const clock = FakeTimers.install({ toNotFake: ['nextTick', 'queueMicrotask'] });
    return () => clock.uninstall();
  },
};

async function served(t: ExecutionContext, path: string): Promise<string> {
  const server = http.createServer((_request, response) => void sendFile(path, response, { reject: false }));
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** Two connected sockets of this process: one of a transfer, and its peer. */
async function connected(t: ExecutionContext): Promise<[net.Socket, net.Socket]> {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const near = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [far] = (await once(server, 'connection')) as [net.Socket];
  server.close();
  for (const socket of [near, far]) {
    socket.on('error', () => {});
    t.teardown(() => void socket.destroy());
  }
  if (near.connecting) await once(near, 'connect');
  return [near, far];
}

for (const [name, replace] of Object.entries(FAKES)) {
  /** A test during which the timers are replaced. */
  const testFaked = (title: string, run: (t: ExecutionContext, fake: () => void) => Promise<void>) =>
    test.serial(title, async (t) => {
      let restore = () => {};
      try {
        await run(t, () => {
          restore = replace();
        });
      } finally {
        restore();
      }
    });

  testFaked(`${name}: a small file, a HEAD request and a large file are answered`, async (t, fake) => {
    const small = sample(t, 4 * KiB);
    const large = sample(t, MiB);
    const [one, other] = [await served(t, small.path), await served(t, large.path)];
    fake();
    t.deepEqual((await curl(one)).body, small.bytes);
    t.is((await curl('--head', one)).headers['content-length'], String(4 * KiB));
    t.deepEqual((await curl(other)).body, large.bytes);
  });

  testFaked(
    `${name}: a small file and a large file reach a socket, a descriptor and a stream`,
    async (t, fake) => {
      const small = sample(t, 4 * KiB);
      const large = sample(t, MiB);
      const [near, far] = await connected(t);
      far.resume();
      const fd = sink(t);
      const stream = new PassThrough().resume();
      fake();
      for (const { path, bytes } of [small, large]) {
        for (const destination of [near, fd, stream])
          t.is((await sendFile(path, destination)).total, bytes.length);
      }
    },
  );

  testFaked(`${name}: idleTimeout, halfCloseTimeout and an abort end relays`, async (t, fake) => {
    const pairs = [];
    for (let each = 0; each < 3; each++) pairs.push(await Promise.all([connected(t), connected(t)]));
    fake();
    const codes = pairs.map(async ([[a, peer], [b]], index) => {
      const abort = new AbortController();
      const options = [{ idleTimeout: 100 }, { halfCloseTimeout: 100 }, { signal: abort.signal }][index];
      const transfer = relay(a, b, { ...options, reject: false });
      if (index === 1) peer.end();
      if (index === 2) abort.abort();
      return ((await transfer).error as TransferError).code;
    });
    t.deepEqual(await Promise.all(codes), ['ERR_IDLE_TIMEOUT', 'ERR_HALF_CLOSE_TIMEOUT', 'ABORT_ERR']);
  });

  testFaked(`${name}: a limited copy between files reports its progress`, async (t, fake) => {
    const source = opened(t, sample(t, 64 * KiB).path);
    const destination = opened(t, `${directory(t)}/destination`, 'w');
    const reports: number[] = [];
    fake();
    const result = await copy(source, destination, {
      rateLimit: 256 * KiB,
      progressInterval: 10,
      onProgress: ({ total }) => reports.push(total),
    });
    t.is(result.total, 64 * KiB);
    t.true(result.durationMs > 0);
    t.true(reports.length > 0);
  });

  testFaked(`${name}: a limited copy between streams ends`, async (t, fake) => {
    const [source, destination] = [new PassThrough(), new PassThrough().resume()];
    source.end(Buffer.alloc(8 * KiB));
    fake();
    const result = await copy(source, destination, { rateLimit: 64 * KiB });
    t.is(result.total, 8 * KiB);
  });
}

test('small and large files, HEAD and copies work in a process that replaces the timers before it loads the package', async (t) => {
  const program = join(import.meta.dirname, '../helpers/processes/faked-first.mjs');
  const [small, large] = [sample(t, 4 * KiB), sample(t, MiB)];
  const { stdout } = await promisify(execFile)(process.execPath, [program, small.path, large.path], {
    timeout: 30_000,
  });
  t.deepEqual(JSON.parse(stdout), [
    ['GET', 4 * KiB],
    ['HEAD', 0],
    ['GET', MiB],
    ['copy', 4],
  ]);
});
