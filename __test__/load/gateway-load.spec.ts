// A gateway process under 1,000 concurrent short connections, which clients and origin end in every way there is. Anything that a connection leaves behind shows in the descriptors, the heap and the counts of that process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { isNative } from '../helpers/engine.js';
import { within } from '../helpers/wait.js';

const SCRIPT = fileURLToPath(new URL('../helpers/processes/gateway-process.mjs', import.meta.url));
const AT_ONCE = 1_000;
const MiB = 1 << 20;

interface Held {
  sockets: number;
  others: number;
  leased: number;
  active: number;
  ended: number;
  heap: number;
  external: number;
  rss: number;
  resources: number;
  outcomes: Record<string, number>;
  odd: number;
  problems: string[];
}

/** Mulberry32: the same seed gives the same numbers. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function gateway(t: ExecutionContext, origin: number, engine: string) {
  const args = ['--expose-gc', SCRIPT, String(origin)];
  const env = engine === 'stream' ? { ...process.env, FDSPLICE_ENGINE: engine } : process.env;
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'], env });
  t.teardown(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (expected: string) => String((await within(90_000, expected, lines.next())).value);
  return {
    port: Number(await line('the gateway listens')),
    held: async () => {
      child.stdin.write('\n');
      return JSON.parse(await line('the gateway reports what it holds')) as Held;
    },
    end: async () => {
      const exit = once(child, 'exit');
      child.stdin.end();
      return (await within(30_000, 'the gateway ends', exit))[0] as number | null;
    },
  };
}

/** An origin that echoes; a few of its connections reset, or end early. */
async function origin(t: ExecutionContext, random: () => number): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    const chance = random();
    if (chance < 0.05) socket.resetAndDestroy();
    else if (chance < 0.1) {
      // Resets at the first byte, or ends with a client that sent none.
      socket.once('data', () => socket.resetAndDestroy()).once('end', () => socket.end());
    } else if (chance < 0.15) socket.end('enough').resume();
    else socket.pipe(socket);
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 2048 });
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return (server.address() as AddressInfo).port;
}

interface Tally {
  /** Echoes that arrived complete. */
  whole: number;
  aborted: number;
  /** Ended by the other side before the echo was complete. */
  cut: number;
  wrong: string[];
}

/** One connection: the client sends a random number of bytes and may give up at a random time. */
async function visit(port: number, random: () => number, tally: Tally): Promise<void> {
  const size = random() < 0.05 ? Math.floor(random() * 300_000) : Math.floor(random() * 4_000);
  const patience = random() < 0.4 ? Math.floor(random() * 60) : undefined;
  const abruptly = random() < 0.7;
  const bytes = Buffer.alloc(size, 1 + Math.floor(random() * 255));
  const socket: Socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let received = 0;
  let intact = true;
  socket.on('data', (chunk: Buffer) => {
    const matches = chunk.equals(bytes.subarray(received, received + chunk.length));
    intact = intact && (matches || chunk.equals(Buffer.from('enough')));
    received += chunk.length;
  });
  socket.on('error', () => undefined);
  socket.on('end', () => socket.end());
  let left = false;
  const timer =
    patience === undefined
      ? undefined
      : setTimeout(() => {
          left = true;
          if (abruptly && !socket.connecting) socket.resetAndDestroy();
          else socket.destroy();
        }, patience);
  socket.end(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  clearTimeout(timer);
  if (!intact) tally.wrong.push(`bytes differ, of ${size}`);
  if (left) tally.aborted += 1;
  else if (received === size) tally.whole += 1;
  else tally.cut += 1;
}

/** Keeps `atOnce` clients busy for `ms` milliseconds. */
async function load(port: number, random: () => number, atOnce: number, ms: number): Promise<Tally> {
  const tally: Tally = { whole: 0, aborted: 0, cut: 0, wrong: [] };
  const deadline = performance.now() + ms;
  const client = async () => {
    while (performance.now() < deadline) await visit(port, random, tally);
  };
  await within(
    ms + 120_000,
    'every client has ended',
    Promise.all(
      Array.from({ length: atOnce }, async (_, index) => {
        // Spreads the first connects over 100 ms.
        await sleep(index % 100);
        await client();
      }),
    ),
  );
  return tally;
}

/** Milliseconds of load for each engine. */
const FULL = process.env['FDSPLICE_FULL'] === '1';
const MS = { native: FULL ? 20_000 : 8_000, stream: FULL ? 10_000 : 5_000 };
const engines = isNative ? (['native', 'stream'] as const) : (['stream'] as const);

for (const engine of engines) {
  test.serial(
    `${engine}: a gateway holds no resource after 1,000 concurrent short connections with random aborts`,
    async (t) => {
      const seed = Number(process.env['FDSPLICE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
      t.log(`FDSPLICE_SEED=${seed}`);
      const random = generator(seed);
      const { port, held, end } = await gateway(t, await origin(t, random), engine);

      // A first load compiles the code and fills the caches.
      await load(port, random, AT_ONCE, 4_000);
      const before = await held();
      const tally = await load(port, random, AT_ONCE, MS[engine]);
      const after = await held();
      const connections = after.ended - before.ended;
      t.log(`${connections} relays: ${JSON.stringify(tally)}, ${JSON.stringify(after.outcomes)}`);
      const grown = after.heap + after.external - before.heap - before.external;
      const each = (grown / connections).toFixed(1);
      t.log(`${each} bytes of heap a connection, RSS ${before.rss / MiB} to ${after.rss / MiB} MiB`);

      t.deepEqual(tally.wrong, []);
      t.true(tally.whole > 100 && tally.aborted > 100 && tally.cut > 10, JSON.stringify(tally));
      t.deepEqual(after.problems, []);
      t.is(after.outcomes['ERR_IDLE_TIMEOUT'], undefined, 'nothing hangs');
      t.is(after.odd, 0, 'sockets that were not closed once, or have a listener left');
      t.deepEqual([after.active, after.leased], [0, 0]);
      t.deepEqual(
        [after.sockets, after.others, after.resources],
        [before.sockets, before.others, before.resources],
      );
      // Anything kept per connection, even a single promise, takes more than 100 bytes. Two readings of one heap differ by
      // about 200 KiB.
      t.true(grown < Math.max(MiB, 30 * connections), `${each} bytes of heap a connection`);
      t.is(await end(), 0);
    },
  );
}
