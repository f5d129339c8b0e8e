// A copy of a file that must be read from disk first, beside a ping-pong on another transfer: slow reads must not block
// the threads that serve other transfers.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import net, { type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, sendFile, type Transfer } from 'fdsplice';

import { directory, GiB, MiB, opened } from '../helpers/copy-files.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';

/** Larger in the long run. */
const SIZE = process.env['FDSPLICE_FULL'] === '1' ? GiB : 256 * MiB;

/** A big file that is not in the page cache; the test logs how much of it remained there. */
function coldFile(t: ExecutionContext): { path: string; chill: () => void } {
  const path = join(directory(t), 'cold');
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(8 * MiB, 'fdsplice');
  for (let at = 0; at < SIZE; at += block.length) writeSync(fd, block);
  fsyncSync(fd);
  closeSync(fd);
  const chill = () => {
    // With a count of 0, dd only advises the kernel to drop its pages of the file (posix_fadvise).
    execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
    try {
      const args = ['--bytes', '--noheadings', '--output', 'RES', path];
      t.log(`${execFileSync('fincore', args).toString().trim()} of ${SIZE} bytes are in memory`);
    } catch {
      t.log('the part of the file in memory is unknown: fincore is missing');
    }
  };
  return { path, chill };
}

/** A connection through a relay to an echo server. */
async function echoed(t: ExecutionContext): Promise<Socket> {
  const echo = net.createServer((socket) => socket.setNoDelay(true).pipe(socket));
  const gateway = net.createServer((a) => {
    const b = net.connect((echo.address() as AddressInfo).port, '127.0.0.1');
    relay(a, b).catch(() => {});
  });
  for (const server of [echo, gateway]) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => void server.close());
  }
  const client = net.connect((gateway.address() as AddressInfo).port, '127.0.0.1').setNoDelay(true);
  await once(client, 'connect');
  t.teardown(() => client.destroy());
  return client;
}

interface Times {
  rounds: number;
  median: number;
  most: number;
}

async function pingPong(client: Socket, goesOn: (rounds: number) => boolean): Promise<Times> {
  const times: number[] = [];
  while (goesOn(times.length)) {
    const since = performance.now();
    client.write('ping');
    await once(client, 'data');
    times.push(performance.now() - since);
  }
  times.sort((one, other) => one - other);
  return {
    rounds: times.length,
    median: times[times.length >> 1] ?? Infinity,
    most: times.at(-1) ?? Infinity,
  };
}

test.serial('a transfer of a cold file does not delay a ping-pong on another transfer', async (t) => {
  t.timeout(240_000);
  const peer = Peer.start(t);
  const client = await echoed(t);
  const { path, chill } = coldFile(t);
  await pingPong(client, (rounds) => rounds < 200);
  const alone = await pingPong(client, (rounds) => rounds < 1000);
  const report = (label: string, { rounds, median, most }: Times) =>
    t.log(
      `${label}: median ${median.toFixed(3)} ms (× ${(median / alone.median).toFixed(1)}), ` +
        `longest ${most.toFixed(1)} ms, ${rounds} rounds`,
    );
  report('alone', alone);
  const moves: Record<string, () => Promise<{ transfer: Transfer }>> = {
    'beside a file sent to a socket': async () => {
      const { b, origin } = await pair(t, peer);
      peer.read(origin, SIZE).catch(() => {});
      return { transfer: sendFile(path, b) };
    },
    'beside a file sent through a buffer': async () => {
      const { b, origin } = await pair(t, peer);
      peer.read(origin, SIZE).catch(() => {});
      return { transfer: sendFile(path, b, { zeroCopy: false }) };
    },
    'beside a file copied to a file': () =>
      Promise.resolve({ transfer: copy(opened(t, path), opened(t, join(directory(t), 'copy'), 'w')) }),
  };
  for (const [label, begin] of Object.entries(moves)) {
    chill();
    // Wrapped in an object, because await would unwrap a bare promise.
    const { transfer } = await begin();
    let over = false;
    const ended = transfer.finally(() => (over = true));
    const beside = await pingPong(client, (rounds) => !over || rounds === 0);
    t.is((await ended).tx, SIZE);
    report(label, beside);
    // Generous limits: the peer, the disk and other processes share the processors.
    t.true(beside.median < 50 * alone.median, label);
    t.true(beside.median < 1000, label);
  }
});
