// Runs examples/static-server in a separate process, with Express and with Fastify, and curl as the client.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';

import test, { type ExecutionContext } from 'ava';

import { connect } from '../helpers/local-peers.js';
import { testWithTool } from '../helpers/tools.js';
import { directory, MiB, sha256 } from '../helpers/copy-files.js';
import { curl } from '../helpers/curl.js';
import { isNative } from '../helpers/engine.js';
import { Example } from '../helpers/example.js';

const SIZE = 40 * MiB + 123;

interface Site {
  example: Example;
  port: number;
  url: string;
  bytes: Buffer;
  /** A folder that curl may write to. */
  folder: string;
}

async function site(t: ExecutionContext, server: string): Promise<Site> {
  const folder = directory(t);
  const root = join(folder, 'public');
  mkdirSync(join(root, 'folder'), { recursive: true });
  const bytes = randomBytes(SIZE);
  writeFileSync(join(root, 'big.bin'), bytes);
  writeFileSync(join(root, 'empty.txt'), '');
  writeFileSync(join(root, 'folder', 'with space.txt'), 'in a folder');
  writeFileSync(join(root, '.hidden'), 'in a dotfile');
  writeFileSync(join(folder, 'secret.txt'), 'outside of the root');
  const { example, port } = await Example.listening(t, `static-server/${server}.js`, '--root', root);
  return { example, port, url: `http://127.0.0.1:${port}/files`, bytes, folder };
}

for (const server of ['express', 'fastify'] as const) {
  testWithTool(
    'curl',
    `${server}: whole files, HEAD requests and empty files are answered correctly`,
    async (t) => {
      const { example, url, bytes } = await site(t, server);
      const { exit, status, headers, body } = await curl(`${url}/big.bin`);
      t.deepEqual([exit, status, sha256(body)], [0, 200, sha256(bytes)]);
      t.is(headers['content-length'], String(SIZE));
      t.is(headers['accept-ranges'], 'bytes');
      t.is(headers['content-type'], 'application/octet-stream');
      t.is(await example.line(/big\.bin: /), 'GET /files/big.bin: 200');
      const head = await curl('--head', `${url}/big.bin`);
      t.deepEqual([head.exit, head.status, head.headers['content-length']], [0, 200, String(SIZE)]);
      t.is(head.headers['etag'], headers['etag']);
      const empty = await curl(`${url}/empty.txt`);
      t.deepEqual([empty.exit, empty.status, empty.headers['content-length']], [0, 200, '0']);
      const spaced = await curl(`${url}/folder/with%20space.txt?query=1`);
      t.deepEqual([spaced.status, spaced.body.toString()], [200, 'in a folder']);
    },
  );

  testWithTool(
    'curl',
    `${server}: single, unsatisfiable and multiple ranges are answered correctly`,
    async (t) => {
      const { url, bytes } = await site(t, server);
      for (const [range, start, end] of [
        ['0-0', 0, 1],
        ['1000000-', 1_000_000, SIZE],
        ['-100', SIZE - 100, SIZE],
        ['5-9999999999', 5, SIZE],
      ] as const) {
        const { exit, status, headers, body } = await curl('--range', range, `${url}/big.bin`);
        t.deepEqual([exit, status, sha256(body)], [0, 206, sha256(bytes.subarray(start, end))], range);
        t.is(headers['content-range'], `bytes ${start}-${end - 1}/${SIZE}`);
        t.is(headers['content-length'], String(end - start));
      }
      const beyond = await curl('--range', `${SIZE}-`, `${url}/big.bin`);
      t.deepEqual([beyond.status, beyond.headers['content-range']], [416, `bytes */${SIZE}`]);
      // Neither server makes multipart answers. Both send the whole file, as HTTP allows.
      const several = await curl('--range', '0-1,5-6', `${url}/big.bin`);
      t.deepEqual([several.exit, several.status, several.body.length], [0, 200, SIZE]);
    },
  );

  testWithTool('curl', `${server}: an interrupted download can be resumed`, async (t) => {
    const { url, bytes, folder } = await site(t, server);
    const file = join(folder, 'download');
    writeFileSync(file, bytes.subarray(0, 12_345_678));
    const { exit, status } = await curl('--continue-at', '-', '--output', file, `${url}/big.bin`);
    t.deepEqual([exit, status], [0, 206]);
    t.is(sha256(readFileSync(file)), sha256(bytes));
  });

  testWithTool('curl', `${server}: a file that the client has cached is not sent again`, async (t) => {
    const { url } = await site(t, server);
    const { headers } = await curl('--head', `${url}/big.bin`);
    for (const condition of [
      `If-None-Match: ${headers['etag']}`,
      `If-Modified-Since: ${headers['last-modified']}`,
    ]) {
      const { exit, status, body } = await curl('--header', condition, `${url}/big.bin`);
      t.deepEqual([exit, status, body.length], [0, 304, 0], condition);
    }
    const changed = await curl('--header', 'If-None-Match: "other"', '--range', '0-9', `${url}/big.bin`);
    t.deepEqual([changed.status, changed.body.length], [206, 10]);
    const stale = await curl('--header', 'If-Range: "other"', '--range', '0-9', `${url}/big.bin`);
    t.deepEqual([stale.status, stale.body.length], [200, SIZE]);
  });

  testWithTool(
    'curl',
    `${server}: missing files, hidden files and files outside the root are rejected`,
    async (t) => {
      const { url } = await site(t, server);
      for (const [path, expected] of [
        ['missing.bin', [404]],
        ['.hidden', [404]],
        ['folder', [301, 403, 404]],
        ['../secret.txt', [403, 404]],
        ['%2e%2e/secret.txt', [403, 404]],
        ['..%2fsecret.txt', [403, 404]],
        ['folder/../../secret.txt', [403, 404]],
        ['folder/%2e%2e%2f%2e%2e%2fsecret.txt', [403, 404]],
        ['/%2e%2e//../secret.txt', [403, 404]],
        ['big.bin%00.txt', [400, 403, 404]],
        ['%zz', [400, 404]],
      ] as const) {
        const { status, body } = await curl('--path-as-is', `${url}/${path}`);
        t.true((expected as readonly number[]).includes(status), `${path}: ${status}`);
        t.false(body.includes('outside of the root'), path);
        t.false(body.includes('in a dotfile'), path);
      }
    },
  );

  testWithTool(
    'curl',
    `${server}: several requests share a connection, and a client that disconnects is logged`,
    async (t) => {
      const { example, port, url, bytes } = await site(t, server);
      const ranges = [
        '--range',
        '0-999999',
        `${url}/big.bin`,
        '--next',
        '--silent',
        '--range',
        '7-9',
        `${url}/big.bin`,
      ];
      const last = ['--next', '--silent', '--write-out', '%{num_connects}', `${url}/folder/with%20space.txt`];
      const { stdout } = spawnSync('curl', ['--silent', ...ranges, ...last], { maxBuffer: 64 * MiB });
      const expected = Buffer.concat([
        bytes.subarray(0, 1_000_000),
        bytes.subarray(7, 10),
        Buffer.from('in a folder0'),
      ]);
      t.is(sha256(stdout), sha256(expected));
      const client = await connect(t, { port });
      client.write('GET /files/big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
      await once(client, 'data');
      client.resetAndDestroy();
      t.regex(await example.line(/big\.bin: not completed/), /premature close|ECONNRESET|EPIPE/i);
      const { exit, body } = await curl('--range', '0-9', `${url}/big.bin`);
      t.deepEqual([exit, body], [0, bytes.subarray(0, 10)]);
    },
  );

  testWithTool(
    'curl',
    `${server}: a file that shrinks while it is sent does not look complete`,
    async (t) => {
      const { example, port, folder } = await site(t, server);
      const client = await connect(t, { port });
      client.write('GET /files/big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      await once(client, 'readable');
      truncateSync(join(folder, 'public', 'big.bin'), MiB);
      let received = 0;
      await t.throwsAsync(
        async () => {
          for await (const chunk of client) received += (chunk as Buffer).length;
          if (received < SIZE) throw new Error('cut off');
        },
        undefined,
        'the client sees that it is not all',
      );
      t.true(received < SIZE);
      // Without the core, the package `send` serves the file by its own stream, and takes this for the end.
      if (isNative) t.truthy(await example.line(/big\.bin: not completed/));
    },
  );

  test(`${server}: a signal lets a response finish`, async (t) => {
    const { example, port } = await site(t, server);
    const client = await connect(t, { port });
    client.write('GET /files/big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await once(client, 'readable');
    example.signal();
    let received = 0;
    for await (const chunk of client) received += (chunk as Buffer).length;
    t.true(received > SIZE, `${received} of ${SIZE}`);
    t.is(await example.ended(), 0);
  });
}
