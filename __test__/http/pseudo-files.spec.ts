// Files whose size says nothing about their contents: the kernel makes them when they are read, or a FUSE server answers
// each read itself. They are sent to their end, without a Content-Length; files on disk and in memory keep theirs.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { type RequestListener, type ServerResponse } from 'node:http';
import https from 'node:https';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { RateLimiter, sendFile, type SendFileOptions, type TrafficResult } from 'fdsplice';

import { directory, memoryWithRoom, opened, sample } from '../helpers/copy-files.js';
import { nothingIsLeft } from '../helpers/left.js';
import { trust, identity } from '../helpers/tls.js';
import { execFileAsync, testWithTool } from '../helpers/tools.js';
import { within } from '../helpers/wait.js';
import { exchanged, get, listening, site } from './site.js';

nothingIsLeft(test, 'behind all tests');

/** Files of several file systems that this machine may have. Their contents do not change. */
const PSEUDO = [
  '/proc/version',
  '/sys/kernel/mm/transparent_hugepage/enabled',
  '/sys/kernel/mm/transparent_hugepage/defrag',
  '/sys/kernel/security/lsm',
  '/sys/kernel/debug/sched/features',
  '/sys/kernel/tracing/available_tracers',
  '/sys/fs/cgroup/cgroup.controllers',
  '/sys/fs/cgroup/unified/cgroup.controllers',
].filter(isReadable);

function isReadable(path: string): boolean {
  try {
    return readFileSync(path).length > 0;
  } catch {
    return false;
  }
}

type Send = (t: ExecutionContext, path: string, response: ServerResponse) => Promise<TrafficResult>;

const WAYS: Record<string, Send> = {
  'a path': (_t, path, response) => sendFile(path, response),
  'a path with a limit': (_t, path, response) =>
    sendFile(path, response, { rateLimit: new RateLimiter(1e9) }),
  'a number': (t, path, response) => sendFile(opened(t, path), response),
  'a FileHandle': async (_t, path, response) => {
    const handle = await open(path);
    try {
      return await sendFile(handle, response);
    } finally {
      await handle.close();
    }
  },
};

for (const path of PSEUDO) {
  for (const [way, send] of Object.entries(WAYS)) {
    test(`${path}, given as ${way}, is sent to its end, and the connection stays usable`, async (t) => {
      const expected = readFileSync(path, 'latin1');
      const results: TrafficResult[] = [];
      const place = await site(t, (_request, response) => {
        void send(t, path, response).then((result) => results.push(result));
      });
      for (let round = 0; round < 2; round += 1) {
        const { body, headers } = await get(place);
        t.is(body.toString('latin1'), expected);
        t.is(headers['content-length'], undefined);
      }
      const head = await get(place, { method: 'HEAD' });
      t.deepEqual([head.status, head.headers['content-length']], [200, undefined]);
      t.true((await exchanged(place.port, 'GET / HTTP/1.0')).endsWith(`\r\n\r\n${expected}`));
      for (const { error } of results) t.is(error, null);
    });
  }

  for (const [name, options, from, to] of [
    ['from its third byte', { start: 2 }, 2, undefined],
    ['up to its third byte', { end: 2 }, 0, 3],
    ['from its second to its third byte', { start: 1, end: 2 }, 1, 3],
    ['after its end', { start: 4000, end: 5000 }, 4000, 5001],
  ] as [string, SendFileOptions, number, number | undefined][]) {
    test(`${path} is sent ${name}`, async (t) => {
      const place = await site(t, ({ url }, response) => {
        void sendFile(url === '/path' ? path : opened(t, path), response, options);
      });
      for (const url of ['/path', '/number']) {
        const { body } = await get(place, { path: url });
        t.is(body.toString('latin1'), readFileSync(path, 'latin1').slice(from, to));
      }
    });
  }

  test(`${path} is sent up to a Content-Length that a static server has set for a range`, async (t) => {
    const { port } = await site(t, (_request, response) => {
      response.writeHead(206, { 'Content-Range': 'bytes 1-2/*', 'Content-Length': 2 });
      void sendFile(path, response, { start: 1, end: 2 });
    });
    const received = await exchanged(port, 'GET /', 'GET /');
    const expected = readFileSync(path, 'latin1').slice(1, 3);
    t.deepEqual(received.split(/HTTP\/1\.1 206[^]*?\r\n\r\n/).slice(1), [expected, expected]);
  });

  test(`HTTPS: ${path} is sent to its end`, async (t) => {
    const handler: RequestListener = (_request, response) => void sendFile(path, response);
    const port = await listening(t, https.createServer(identity, handler));
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ...trust });
    t.teardown(() => agent.destroy());
    const text = await new Promise<string>((resolve, reject) => {
      const request = https.get({ port, host: '127.0.0.1', agent }, (message) => {
        const chunks: Buffer[] = [];
        message.on('data', (chunk: Buffer) => chunks.push(chunk));
        message.on('end', () => resolve(Buffer.concat(chunks).toString('latin1')));
      });
      request.on('error', reject);
    });
    t.is(text, readFileSync(path, 'latin1'));
  });
}

test('files on disk and in memory keep their Content-Length', async (t) => {
  const paths = [sample(t, 1000).path, sample(t, 200_000).path];
  const memory = memoryWithRoom(1_000_000);
  if (memory !== undefined) {
    const folder = mkdtempSync(join(memory, 'fdsplice-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    for (const size of [1000, 200_000]) {
      const path = join(folder, `${size}`);
      writeFileSync(path, Buffer.alloc(size, 'x'));
      paths.push(path);
    }
  }
  for (const path of paths) {
    for (const send of Object.values(WAYS)) {
      const place = await site(t, (_request, response) => void send(t, path, response));
      const { body, headers } = await get(place);
      t.is(headers['content-length'], String(statSync(path).size));
      t.true(body.equals(readFileSync(path)));
    }
  }
});

test('this machine has a file that reports another size than that of its contents', (t) => {
  if (!existsSync('/sys/kernel/mm')) {
    t.pass('no sysfs');
    return;
  }
  t.true(PSEUDO.some((path) => statSync(path).size !== readFileSync(path).length));
});

/** Whether this process may mount FUSE file systems. */
const canMount = process.getuid?.() === 0 && existsSync('/dev/fuse');

/** Mounts a FUSE file system with one file, and returns its path. `undefined` where that is not possible. */
async function fuseFile(
  t: ExecutionContext,
  size: number,
  length: number,
  direct: boolean,
): Promise<string | undefined> {
  const folder = directory(t);
  const program = join(import.meta.dirname, '../fixtures/fuse-file.py');
  const args = [program, folder, `${size}`, `${length}`, direct ? '1' : '0'];
  const server = spawn('python3', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await within(20_000, 'the file system is mounted', once(server.stdout, 'readable'));
  // The program ends without output where it may not mount.
  if (server.stdout.read() === null) return undefined;
  const over = once(server, 'exit');
  t.teardown(async () => {
    await execFileAsync('umount', [folder]);
    await over;
  });
  return join(folder, 'file');
}

for (const [size, length, direct, announced] of [
  [4096, 23, true, undefined],
  [10, 1000, true, undefined],
  [0, 23, true, undefined],
  [200_000, 23, true, undefined],
  [100_000, 200_000, true, undefined],
  [23, 23, false, '23'],
  [200_000, 200_000, false, '200000'],
] as const) {
  const kind = direct ? 'with direct I/O' : 'with a page cache';
  testWithTool(
    'python3',
    `a FUSE file ${kind} that reports ${size} bytes and has ${length} is sent whole`,
    async (t) => {
      const path = canMount ? await fuseFile(t, size, length, direct) : undefined;
      if (path === undefined) {
        t.pass('FUSE cannot be mounted here');
        return;
      }
      for (const send of Object.values(WAYS)) {
        const transfers: Promise<TrafficResult>[] = [];
        const place = await site(t, (_request, response) => {
          transfers.push(send(t, path, response));
        });
        const { body, headers } = await get(place);
        t.is(body.toString(), '0123456789'.repeat(length / 10 + 1).slice(0, length));
        t.is(headers['content-length'], announced);
        const head = await get(place, { method: 'HEAD' });
        t.is(head.headers['content-length'], announced);
        // The file system is busy until both transfers have closed the file.
        const results = await within(20_000, 'the transfers settle', Promise.all(transfers));
        t.deepEqual(
          results.map(({ error }) => error),
          [null, null],
        );
      }
    },
  );
}
