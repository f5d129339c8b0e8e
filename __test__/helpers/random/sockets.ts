// Connections whose both ends are Node's, made by the hundred.
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

/** Bytes without a period that a lost page could hide in. */
const BYTES = randomBytes(8 << 20);

/** A peer: what it was told to send, and what it has got. */
export class Outer {
  readonly socket: net.Socket;
  readonly transport: Transport;
  /** What it sends comes from here on. */
  readonly #from: number;
  /** Bytes it was told to send. */
  issued = 0;
  /** It has ended its side. */
  ended = false;
  /** It has closed the connection, over TCP by a reset. */
  gone = false;
  /** It was told the end of input. */
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

  /** Everything it was told to send. */
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
    // Node cannot reset a socket whose end is under way: it would never close it.
    const isEnding = socket.writableEnded && !socket.writableFinished;
    if (this.transport === 'tcp' && !isEnding) socket.resetAndDestroy();
    else socket.destroy();
  }

  /** Reads on until it has got the end, or an error. */
  async drain(): Promise<void> {
    const { socket } = this;
    socket.resume();
    if (!socket.readableEnded && !socket.destroyed) {
      await new Promise((resolve) => socket.once('end', resolve).once('close', resolve));
    }
  }
}

/** A piece of the same bytes, to be a head. */
export function head(bytes: number): Buffer {
  return BYTES.subarray(BYTES.length - bytes);
}

/** Makes a connection, whose peer sends bytes of its own, or those from a given place on. */
export type Workshop = (transport: Transport, from?: number) => Promise<Connection>;

/** Makes connections, until the test ends. */
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
    const where =
      transport === 'tcp'
        ? { port: (server.address() as AddressInfo).port, host: '127.0.0.1' }
        : { path: join(directory, 'socket') };
    const outer = net.connect({ ...where, allowHalfOpen: true });
    const [[inner]] = (await Promise.all([once(server, 'connection'), once(outer, 'connect')])) as [
      [net.Socket],
      unknown,
    ];
    count += 1;
    return { inner, outer: new Outer(outer, transport, from) };
  }

  // One after the other: nothing else tells which accepted socket belongs to which connect.
  let last: Promise<unknown> = Promise.resolve();
  return (transport, from) => {
    const made = last.then(() => make(transport, from));
    last = made.catch(() => undefined);
    return made;
  };
}
