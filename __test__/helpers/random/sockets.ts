// Hundreds of connections with both ends in this process, and a peer that records what it sent and received.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import type { Transport } from '../pair.js';

export interface Connection {
  /** The end that a transfer is given. */
  inner: net.Socket;
  outer: Outer;
}

/** Random bytes, because a lost page of periodic data could go unnoticed. */
const BYTES = randomBytes(8 << 20);

/** The peer of a transferred socket, with the bytes that it sent and received. */
export class Outer {
  readonly socket: net.Socket;
  readonly transport: Transport;
  /** The offset of its data in `BYTES`. */
  readonly #from: number;
  /** The number of bytes it has sent so far. */
  issued = 0;
  /** Whether it has ended its side. */
  ended = false;
  /** Whether it has closed the connection, over TCP with a reset. */
  gone = false;
  /** Whether it has read the end of input. */
  sawEnd = false;
  readonly #received: Buffer[] = [];

  constructor(socket: net.Socket, transport: Transport, from: number) {
    this.socket = socket;
    this.transport = transport;
    this.#from = from;
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => this.#received.push(data));
    socket.on('end', () => (this.sawEnd = true));
    socket.pause();
  }

  get received(): Buffer {
    return Buffer.concat(this.#received);
  }

  /** All bytes it has sent so far. */
  get sent(): Buffer {
    return BYTES.subarray(this.#from, this.#from + this.issued);
  }

  send(bytes: number): void {
    if (this.ended || this.gone) return;
    const at = this.#from + this.issued;
    this.socket.write(BYTES.subarray(at, at + bytes));
    this.issued += bytes;
  }

  end(): void {
    if (this.gone || this.ended) return;
    this.ended = true;
    this.socket.end();
  }

  leave(): void {
    if (this.gone) return;
    this.gone = true;
    const { socket } = this;
    // Node never closes a socket that is reset while its end is pending.
    const isEnding = socket.writableEnded && !socket.writableFinished;
    if (this.transport === 'tcp' && !isEnding) socket.resetAndDestroy();
    else socket.destroy();
  }

  /** Reads until the end of input or an error. */
  async drain(): Promise<void> {
    const { socket } = this;
    socket.resume();
    if (!socket.readableEnded && !socket.destroyed) {
      await new Promise((resolve) => socket.once('end', resolve).once('close', resolve));
    }
  }
}

/** `bytes` bytes of the same data, for use as a head. */
export function head(bytes: number): Buffer {
  return BYTES.subarray(BYTES.length - bytes);
}

/** Makes a connection. Its peer sends the data from offset `from`, or from an offset of its own. */
export type Workshop = (transport: Transport, from?: number) => Promise<Connection>;

/** Returns a function that makes connections. The end of the test closes its servers. */
export async function workshop(t: ExecutionContext): Promise<Workshop> {
  const directory = await mkdtemp(join(tmpdir(), 'fdsplice-'));
  const servers = { tcp: net.createServer(), unix: net.createServer() };
  for (const server of Object.values(servers)) {
    Object.assign(server, { allowHalfOpen: true, pauseOnConnect: true });
  }
  servers.tcp.listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
  servers.unix.listen({ path: join(directory, 'socket'), backlog: 1024 });
  await Promise.all(Object.values(servers).map((server) => once(server, 'listening')));
  t.teardown(async () => {
    for (const server of Object.values(servers)) server.close();
    await rm(directory, { recursive: true });
  });

  let count = 0;
  async function make(transport: Transport, from = (count * 4099) % (4 << 20)): Promise<Connection> {
    const server = servers[transport];
    const address =
      transport === 'tcp'
        ? { port: (server.address() as AddressInfo).port, host: '127.0.0.1' }
        : { path: join(directory, 'socket') };
    const outer = net.connect({ ...address, allowHalfOpen: true });
    const [[inner]] = (await Promise.all([once(server, 'connection'), once(outer, 'connect')])) as [
      [net.Socket],
      unknown,
    ];
    count += 1;
    return { inner, outer: new Outer(outer, transport, from) };
  }

  // One after the other, because nothing else matches an accepted socket to its connect.
  let last: Promise<unknown> = Promise.resolve();
  return (transport, from) => {
    const made = last.then(() => make(transport, from));
    last = made.catch(() => undefined);
    return made;
  };
}
