// Full destinations: a pipe without a reader, a file system without space, a limit on file sizes. The counted bytes are in
// the destination, and all others are still in the source.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';
import { copy } from 'fdsplice';

import { testWithTool } from '../helpers/tools.js';
import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { directory, sha256 } from '../helpers/copy-files.js';
import { nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { leavesNothing } from '../helpers/left.js';
import { crossing } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { steady } from '../helpers/wait.js';

const MiB = 1 << 20;

/** Reads a non-blocking pipe until it is empty. */
function emptied(fd: number): Buffer {
  const parts: Buffer[] = [];
  for (;;) {
    const part = Buffer.alloc(65_536);
    try {
      const bytes = readSync(fd, part);
      if (bytes === 0) return Buffer.concat(parts);
      parts.push(part.subarray(0, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return Buffer.concat(parts);
      throw error;
    }
  }
}

for (const zeroCopy of [true, false]) {
  for (const ending of ['an abort', 'the idle timeout'] as const) {
    nativeTest(
      `${ending} ends a copy to a full pipe, and each byte is in exactly one place, zeroCopy: ${zeroCopy}`,
      async (t) => {
        const peer = Peer.start(t);
        const meet = await crossing(t, peer, 'tcp', { untouched: true });
        const fifo = join(directory(t), 'fifo');
        execFileSync('mkfifo', [fifo]);
        await leavesNothing(t, async () => {
          const pipe = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
          const { a, b, client, origin } = await meet();
          const limit = ending === 'the idle timeout' ? { idleTimeout: 700 } : {};
          const transfer = copy(a, pipe, { zeroCopy, ...limit });
          // More than the pipe holds, and less than the buffers of the socket.
          const bytes = 300_001;
          const sent = await peer.write(client, bytes, 7);
          await peer.shutdown(client);
          await steady('the pipe is full', () => Promise.resolve(transfer.traffic.tx));
          if (ending === 'an abort') transfer.abort();
          const error = await failure(t, transfer);
          t.is(error.code, ending === 'an abort' ? 'ABORT_ERR' : 'ERR_IDLE_TIMEOUT');
          const arrived = emptied(pipe);
          t.is(arrived.length, error.traffic.tx);
          t.true(arrived.length > 0 && arrived.length < bytes);
          // Node can read the rest from the socket.
          const rest: Buffer[] = [];
          a.on('data', (data: Buffer) => rest.push(data)).resume();
          await once(a, 'end');
          t.is(sha256(arrived, ...rest), sent.sha256);
          closeSync(pipe);
          for (const socket of [a, b]) socket.destroy();
          await Promise.all([peer.close(client), peer.close(origin)]);
        });
      },
    );
  }
}

testWithTool(
  'python3',
  'a child that does not read its input stalls the copy, and gets all bytes once it reads',
  async (t) => {
    const peer = Peer.start(t);
    const meet = await crossing(t, peer, 'tcp', { untouched: true });
    await leavesNothing(t, async () => {
      const program =
        'import hashlib, os, sys; os.read(3, 1); ' +
        'print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())';
      const child = spawn('python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] });
      const [stdin, stdout, , go] = child.stdio;
      const { a, b, client, origin } = await meet();
      if (stdin === null || stdout === null) throw new Error('no pipes');
      let output = '';
      stdout.on('data', (data: Buffer) => (output += data.toString()));
      const transfer = copy(a, stdin, { endDestination: true });
      const bytes = 64 * MiB;
      const writing = peer.write(client, bytes, 3);
      await steady('the child’s pipe is full', () => Promise.resolve(transfer.traffic.tx));
      const held = transfer.traffic.tx;
      t.true(held > 0 && held < bytes, `${held}`);
      (go as NodeJS.WritableStream).end('.');
      const sent = await writing;
      await peer.shutdown(client);
      t.is((await transfer).tx, bytes);
      await once(child, 'close');
      t.is(output.trim(), sent.sha256);
      for (const socket of [a, b]) socket.destroy();
      await Promise.all([peer.close(client), peer.close(origin)]);
    });
  },
);

/** A program that copies 3 MiB from a socket into a file until it is full, and checks that each byte is in one place. */
const FILLS = `
  import { once } from 'node:events';
  import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, readdirSync } from 'node:fs';
  import net from 'node:net';
  import { copy, stats } from 'fdsplice';
  const [directory, wanted] = process.argv.slice(1);
  const bytes = Buffer.alloc(3 << 20);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = (at * 2654435761) % 251;
  const open = () => readdirSync('/proc/self/fd').length - 2 * (stats().pipes.leased + stats().pipes.idle);
  let before;
  for (let round = 0; round < 4; round += 1) {
    const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = net.connect(server.address().port, '127.0.0.1');
    const [socket] = await once(server, 'connection');
    client.end(bytes);
    const path = directory + '/file' + round % 2;
    const fd = openSync(path, 'w+');
    const { tx, error } = await copy(socket, fd, { reject: false, zeroCopy: round % 2 === 0 });
    const file = readFileSync(path);
    const rest = [];
    socket.on('data', (data) => rest.push(data)).resume();
    await once(socket, 'end');
    const all = Buffer.concat([file, ...rest]);
    if (error?.code !== wanted || error.side !== 'destination') throw error ?? new Error('the copy did not fail');
    if (fstatSync(fd).size !== tx || file.length !== tx) throw new Error('counted ' + tx + ', written ' + file.length);
    if (!all.equals(bytes)) throw new Error('lost or altered: ' + all.length);
    ftruncateSync(fd, 0);
    closeSync(fd);
    socket.destroy(); client.destroy(); server.close();
    await new Promise((resolve) => setTimeout(resolve, 200));
    before ??= open();
    console.log(tx);
  }
  console.log(JSON.stringify([open() <= before, stats().active, stats().pipes.leased]));
`;

for (const [obstacle, code, shell] of [
  [
    'a file system without space',
    'ENOSPC',
    [
      'unshare',
      '--mount',
      '--map-root-user',
      'sh',
      '-c',
      'mount -t tmpfs -o size=1M none "$D" || exit 99; exec "$@"',
    ],
  ],
  ['a limit on file sizes', 'EFBIG', ['sh', '-c', 'ulimit -f 2052 || exit 99; exec "$@"']],
] as const) {
  test.serial(
    `${obstacle} fails a copy with ${code} and an exact count, and the source keeps the rest`,
    async (t) => {
      const where = directory(t);
      const args = [...nodeArguments(FILLS), where, code];
      const [program, ...rest] = shell;
      const command = ['env', `D=${where}`, program, ...rest, 'sh', process.execPath, ...args];
      const {
        code: status,
        stdout,
        stderr,
      } = await ended(started(t, 'env', command.slice(1), ['ignore', 'pipe', 'pipe']));
      if (status === 99 || /Operation not permitted/.test(stderr)) {
        t.log(`not tested, because it is not permitted here: ${stderr}`);
        t.not(process.env['FDSPLICE_REQUIRE_TOOLS'], '1');
        return;
      }
      t.is(status, 0, stderr);
      const lines = stdout.toString().trim().split('\n');
      t.log(lines.join());
      t.is(lines.at(-1), '[true,0,0]');
      for (const tx of lines.slice(0, -1)) t.true(Number(tx) > 500_000 && Number(tx) < 3 * MiB);
    },
  );
}
