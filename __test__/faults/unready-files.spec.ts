// Files whose calls return EAGAIN, as those of FUSE and procfs may. No reactor can wait for a regular file, so a transfer
// tries again after a pause. Limits and aborts end it.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile, type Transfer } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { type Fuse, fuseTest } from '../helpers/fuse.js';
import { nothingIsLeft } from '../helpers/left.js';
import { until } from '../helpers/wait.js';
import { get, listening, site } from '../http/site.js';

const KiB = 1024;
const MiB = KiB * KiB;
/** Calls that a transfer makes at most before its idle timeout of 500 ms. Without a pause it makes thousands. */
const MOST_CALLS = 1000;

nothingIsLeft(test, 'behind each test');

interface Ends {
  source: FileHandle;
  file: FileHandle;
  socket: net.Socket;
}

async function ends(t: ExecutionContext, fuse: Fuse): Promise<Ends> {
  const folder = mkdtempSync(join(tmpdir(), 'fdsplice-unready-'));
  const path = join(folder, 'file');
  writeFileSync(path, Buffer.alloc(MiB, 1));
  const server = net.createServer();
  const port = await listening(t, server);
  const far = net.connect(port, '127.0.0.1').on('error', () => {});
  far.resume();
  const [socket] = (await once(server, 'connection')) as [net.Socket];
  socket.on('error', () => {});
  const source = await open(fuse.file(2 * MiB), 'r+');
  const file = await open(path, 'r+');
  t.teardown(async () => {
    socket.destroy();
    far.destroy();
    await Promise.all([source.close(), file.close()]);
    rmSync(folder, { recursive: true });
  });
  return { source, file, socket };
}

const options = { idleTimeout: 500 };

for (const [call, operation, start] of [
  ['from a file to a socket', 'read', ({ source, socket }) => copy(source, socket, options)],
  ['from a file to a file', 'read', ({ source, file }) => copy(source, file, options)],
  ['into a file', 'write', ({ source, file }) => copy(file, source, options)],
] as [string, 'read' | 'write', (ends: Ends) => Transfer][]) {
  for (const from of [0, 512 * KiB]) {
    fuseTest(`a copy ${call} that returns EAGAIN from byte ${from} ends when it is idle`, async (t, fuse) => {
      const all = await ends(t, fuse);
      await fuse.again(operation, from);
      const error = await failure(t, start(all));
      t.is(error.code, 'ERR_IDLE_TIMEOUT');
      t.true(error.traffic.total <= from);
      const calls = await fuse.refused();
      t.true(calls > 1 && calls <= MOST_CALLS, `${calls} calls`);
    });
  }
}

fuseTest('a copy from a file that returns EAGAIN can be aborted', async (t, fuse) => {
  const { source, socket } = await ends(t, fuse);
  await fuse.again('read');
  const transfer = copy(source, socket);
  await until(
    'several calls',
    () => fuse.refused(),
    (calls) => calls > 3,
  );
  transfer.abort();
  t.is((await failure(t, transfer)).code, 'ABORT_ERR');
});

for (const size of [100, 2 * MiB]) {
  fuseTest(
    `a response waits for a file of ${size} bytes that returns EAGAIN for a while`,
    async (t, fuse) => {
      await fuse.again('read');
      const at = await site(
        t,
        (_request, response) => void sendFile(fuse.file(size), response, { idleTimeout: 20_000 }),
      );
      const answer = get(at);
      await until(
        'several calls',
        () => fuse.refused(),
        (calls) => calls > 3,
      );
      await fuse.release();
      const { body } = await answer;
      t.is(body.length, size);
    },
  );
}
