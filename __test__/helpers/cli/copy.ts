// Runs `fdsplice copy` in a separate process, with every kind of source and destination.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import type { ExecutionContext } from 'ava';

import { MAIN } from './cli.js';
import { connect, directory, serve } from '../local-peers.js';
import { execFileAsync } from '../tools.js';
import { until } from '../wait.js';

export interface CopiedEvent {
  event: 'copied';
  bytes: number;
  durationMs: number;
  zeroCopy: number;
  engine: string | null;
  error: { code: string; side: string | null; message: string } | null;
}

/** An address as `net.connect` takes it. */
type ConnectAddress =
  { host: string; port: number; path?: never } | { path: string; host?: never; port?: never };

/** A running `fdsplice copy`. The end of the test kills it. */
export class Copy {
  readonly child: ChildProcessWithoutNullStreams;
  /** The text on stderr so far. */
  stderr = '';
  readonly #closed: Promise<unknown>;

  constructor(t: ExecutionContext, ...args: string[]) {
    this.child = spawn(process.execPath, [MAIN, 'copy', '--json', ...args]);
    t.teardown(() => this.child.kill('SIGKILL'));
    this.child.stderr.setEncoding('utf8').on('data', (chunk: string) => (this.stderr += chunk));
    // A copy may end without reading its standard input.
    this.child.stdin.on('error', () => undefined);
    this.#closed = once(this.child, 'close');
  }

  get lines(): Record<string, unknown>[] {
    const complete = this.stderr.split('\n').slice(0, -1);
    return complete.map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** The address of listener number `index`. */
  async listening(index = 0): Promise<ConnectAddress> {
    const addresses = () =>
      this.lines.filter(({ event }) => event === 'listening').map(({ address }) => address);
    const found = await until(`the copy listens (${this.stderr})`, addresses, ({ length }) => length > index);
    const address = String(found[index]);
    const [, host, port] = /^(.*):(\d+)$/.exec(address) ?? [];
    return host === undefined ? { path: address.replace(/^unix:/, '') } : { host, port: Number(port) };
  }

  /** Waits for the end of the copy and discards the rest of its stdout. */
  async ended(): Promise<{ status: number | null; copied: CopiedEvent }> {
    this.child.stdout.resume();
    await this.#closed;
    const copied = this.lines.filter(({ event }) => event === 'copied');
    if (copied.length !== 1) {
      throw new Error(`not exactly one outcome, exit status ${this.child.exitCode}: ${this.stderr}`);
    }
    return { status: this.child.exitCode, copied: copied[0] as unknown as CopiedEvent };
  }
}

/** A source or destination: its argument, and the action of the peer once the copy runs. */
export interface CopyEnd<T> {
  argument: string;
  play(copy: Copy): Promise<T>;
}

const TCP = { host: '127.0.0.1', port: 0 };

/** Every kind of source. Each delivers `bytes`. */
export const SOURCES: Record<string, (t: ExecutionContext, bytes: Buffer) => Promise<CopyEnd<void>>> = {
  'a file': async (t, bytes) => {
    const argument = join(await directory(t), 'source');
    await writeFile(argument, bytes);
    return { argument, play: () => Promise.resolve() };
  },
  'standard input': (_t, bytes) =>
    Promise.resolve({ argument: '-', play: (copy) => Promise.resolve(void copy.child.stdin.end(bytes)) }),
  'a FIFO': async (t, bytes) => {
    const argument = await fifo(t);
    return { argument, play: () => writeFile(argument, bytes) };
  },
  'a TCP server': async (t, bytes) => {
    const { port } = await serve(t, (socket) => socket.end(bytes));
    return { argument: `tcp:127.0.0.1:${port}`, play: () => Promise.resolve() };
  },
  'a Unix server': async (t, bytes) => {
    const path = join(await directory(t), 'socket');
    await serve(t, (socket) => socket.end(bytes), { path });
    return { argument: `unix:${path}`, play: () => Promise.resolve() };
  },
  'a TCP client': (t, bytes) =>
    Promise.resolve({
      argument: 'listen:127.0.0.1:0',
      play: async (copy) => void (await connect(t, await copy.listening())).end(bytes),
    }),
};

/** Every kind of destination. `play` returns the bytes that arrived. */
export const DESTINATIONS: Record<string, (t: ExecutionContext) => Promise<CopyEnd<Buffer>>> = {
  'a file': async (t) => {
    const argument = join(await directory(t), 'destination');
    await writeFile(argument, 'earlier contents');
    return { argument, play: (copy) => once(copy.child, 'exit').then(() => readFile(argument)) };
  },
  'standard output': () => Promise.resolve({ argument: '-', play: (copy) => buffer(copy.child.stdout) }),
  'a FIFO': async (t) => {
    const argument = await fifo(t);
    return { argument, play: () => buffer(createReadStream(argument)) };
  },
  'a TCP server': async (t) => {
    const { port, received } = await collector(t, TCP);
    return { argument: `tcp:127.0.0.1:${port}`, play: () => received };
  },
  'a Unix server': async (t) => {
    const path = join(await directory(t), 'socket');
    const { received } = await collector(t, { path });
    return { argument: `unix:${path}`, play: () => received };
  },
  'a TCP client': (t) => Promise.resolve({ argument: 'listen:127.0.0.1:0', play: (copy) => client(t, copy) }),
  'a Unix client': async (t) => ({
    argument: `listen:unix:${join(await directory(t), 'socket')}`,
    play: (copy) => client(t, copy),
  }),
};

/** Connects to the destination listener and ends at once, before any byte arrives. */
async function client(t: ExecutionContext, copy: Copy): Promise<Buffer> {
  // If the source listens as well, its line comes first.
  const index = copy.child.spawnargs.at(-2)?.startsWith('listen:') === true ? 1 : 0;
  const socket = await connect(t, await copy.listening(index));
  return buffer(socket.end());
}

/** Starts a server. Returns its port and its first connection. */
export async function firstConnection(
  t: ExecutionContext,
  address: { host: string; port: number } | { path: string } = TCP,
): Promise<{ port: number; connection: Promise<Socket> }> {
  const { server, port } = await serve(t, () => undefined, address);
  const connection = once(server, 'connection').then(([socket]) => socket as Socket);
  return { port, connection };
}

/** A server that reads a connection to its end and then ends it. */
async function collector(t: ExecutionContext, address: { host: string; port: number } | { path: string }) {
  const { port, connection } = await firstConnection(t, address);
  const received = connection.then(async (socket) => {
    const all = await buffer(socket);
    socket.end();
    return all;
  });
  return { port, received };
}

export async function fifo(t: ExecutionContext): Promise<string> {
  const path = join(await directory(t), 'fifo');
  await execFileAsync('mkfifo', [path]);
  return path;
}
