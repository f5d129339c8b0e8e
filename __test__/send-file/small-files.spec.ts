// Files of up to 64 KiB, which are read when they are opened and sent in one call if the socket accepts them whole. This
// path is separate from the one for larger files and needs the same guarantees.
import { execFile } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import test from 'ava';
import { sendFile, stats, type TrafficResult } from 'fdsplice';

import { KiB, sample, sha256 } from '../helpers/copy-files.js';
import { openDescriptors } from '../helpers/descriptors.js';
import { engine, isNative, nativeTest } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair, type Transport } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady, until } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

const SIZE = 64 * KiB;
const transports: Transport[] = ['tcp', 'unix'];
/** More files than any socket buffer here holds. */
const FILES = 400;

for (const transport of transports) {
  test(`${transport}: small files wait for a peer that does not read, and none is cut or sent twice`, async (t) => {
    const peer = Peer.start(t);
    const { b, origin } = await pair(t, peer, transport);
    const { path, bytes } = sample(t, SIZE);
    const results: TrafficResult[] = [];
    const sending = (async () => {
      for (let sent = 0; sent < FILES; sent++) results.push(await sendFile(path, b));
      b.end();
    })();
    await steady('files sent', () => Promise.resolve(results.length));
    t.true(results.length < FILES, 'the socket is full');
    const read = await peer.readToEnd(origin);
    await sending;
    t.deepEqual(read, {
      bytes: FILES * SIZE,
      sha256: sha256(Buffer.concat(Array<Buffer>(FILES).fill(bytes))),
      end: 'eof',
    });
    for (const result of results) t.like(result, { tx: SIZE, total: SIZE, engine, error: null });
  });

  for (const [ending, options, code] of [
    ['aborted', { signal: AbortSignal.timeout(1000) }, 'ABORT_ERR'],
    ['timed out', { idleTimeout: 500 }, 'ERR_IDLE_TIMEOUT'],
  ] as const) {
    test(`${transport}: a small file that is ${ending} in the middle reports the bytes that the kernel accepted`, async (t) => {
      const peer = Peer.start(t);
      const { b, origin } = await pair(t, peer, transport);
      const { path } = sample(t, SIZE);
      let accepted = 0;
      let error;
      while (error === undefined) {
        const result = await sendFile(path, b, { ...options, reject: false });
        accepted += result.tx;
        error = result.error ?? undefined;
      }
      t.is(error.code, code);
      // On streams, bytes in the queue of a socket that stays open are still sent.
      if (isNative) t.true(error.traffic.tx < SIZE);
      b.end();
      t.like(await peer.readToEnd(origin), { bytes: accepted, end: 'eof' });
    });
  }
}

test.serial('a small file counts as one transfer of the process and leaves no descriptor', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path } = sample(t, 1000);
  await sendFile(path, b);
  const [before, descriptors] = [stats(), openDescriptors()];
  const written = b.bytesWritten;
  for (let sent = 0; sent < 10; sent++) await sendFile(path, b, { start: 100, end: 599 });
  const after = stats();
  t.is(after.completed - before.completed, 10);
  t.is(after.tx - before.tx, 5000);
  t.is(after.active, before.active);
  t.is(b.bytesWritten - written, 5000);
  t.deepEqual(openDescriptors(), descriptors);
  b.end();
  t.like(await peer.readToEnd(origin), { bytes: 6000, end: 'eof' });
});

test('the count of a small file is visible before its transfer settles, and an abort then changes nothing', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path } = sample(t, 1000);
  const reports: number[] = [];
  const transfer = sendFile(path, b, { onProgress: ({ tx }) => reports.push(tx) });
  await until(
    'every byte is accepted',
    () => transfer.traffic.tx,
    (tx) => tx === 1000,
  );
  transfer.abort();
  const { tx } = await transfer;
  t.is(tx, 1000);
  t.deepEqual(reports, [1000]);
  b.end();
  t.like(await peer.readToEnd(origin), { bytes: 1000, end: 'eof' });
});

for (const size of [1000, 100_000]) {
  test(`a file of ${size} bytes that grows before its body is sent is sent with the length in its headers`, async (t) => {
    const { path, bytes } = sample(t, size);
    const server = http.createServer((request, response) => {
      const flush = response.flushHeaders.bind(response);
      response.flushHeaders = () => {
        flush();
        appendFileSync(path, 'more');
      };
      void sendFile(path, response, { end: size - 1 + Number(request.headers['more']) });
    });
    server.listen(0, '127.0.0.1');
    t.teardown(() => void server.close());
    await once(server, 'listening');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => agent.destroy());
    const { port } = server.address() as AddressInfo;
    // The first range is longer than the file.
    for (const more of [1_000_000, 0]) {
      const request = http.get({ host: '127.0.0.1', port, agent, headers: { more } });
      const [message] = (await once(request, 'response')) as [http.IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of message) chunks.push(chunk as Buffer);
      t.true(Buffer.concat(chunks).equals(bytes));
      t.is(message.headers['content-length'], String(size));
    }
  });
}

const run = promisify(execFile);

nativeTest('a file that the permission model denies to this process is not sent', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const secret = join(directory, 'secret');
  writeFileSync(secret, 'secret');
  const server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const root = join(import.meta.dirname, '../..');
  const program = `
    import { connect } from 'node:net';
    import { once } from 'node:events';
    import { capabilities, sendFile } from '${join(root, 'dist/index.js')}';
    const socket = connect(${(server.address() as AddressInfo).port}, '127.0.0.1');
    await once(socket, 'connect');
    const outcome = await sendFile('${secret}', socket, { reject: false }).catch((error) => ({ error }));
    console.log(JSON.stringify([capabilities().native, outcome.error?.code ?? 'sent']));
    socket.destroy();`;
  const flag = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
  const flags = [flag, '--allow-addons', `--allow-fs-read=${root}/*`, '--no-warnings'];
  if (process.allowedNodeEnvironmentFlags.has('--allow-net')) flags.push('--allow-net');
  const { stdout } = await run(process.execPath, [...flags, '--input-type=module', '--eval', program]);
  const [native, code] = JSON.parse(stdout) as [boolean, string];
  t.true(native);
  t.is(code, 'ERR_ACCESS_DENIED');
});
