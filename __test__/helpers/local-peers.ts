// Clients and targets in the process of the test, for programs that relay in a process of their own.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net, { type AddressInfo, type ListenOptions } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import type { ExecutionContext } from 'ava';

/** Starts a server. The end of the test closes it and destroys its connections. */
export async function serve(
  t: ExecutionContext,
  handle: (socket: net.Socket) => void,
  where: ListenOptions = { port: 0, host: '127.0.0.1' },
): Promise<{ server: net.Server; port: number }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket.on('close', () => sockets.delete(socket)));
    // A relay that fails on purpose resets its target.
    socket.on('error', () => undefined);
    handle(socket);
  });
  server.listen(where);
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });
  return { server, port: where.path === undefined ? (server.address() as AddressInfo).port : 0 };
}

/** A target that sends back all it receives. */
export async function echo(t: ExecutionContext, where?: ListenOptions): Promise<string> {
  const { port } = await serve(t, (socket) => socket.pipe(socket), where);
  return `127.0.0.1:${port}`;
}

/** A target that keeps its connections open and sends nothing. */
export async function silent(t: ExecutionContext): Promise<string> {
  const { port } = await serve(t, (socket) => socket.resume());
  return `127.0.0.1:${port}`;
}

/** An address without a listener. */
export async function nobody(t: ExecutionContext): Promise<string> {
  const { server, port } = await serve(t, () => undefined);
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${port}`;
}

/** Starts a connection without waiting for 'connect', because the peer may reset it first. */
export function dial(t: ExecutionContext, where: net.NetConnectOpts): net.Socket {
  const socket = net.connect({ allowHalfOpen: true, ...where });
  // The test decides by the events that it awaits whether an error is expected.
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  return socket;
}

export async function connect(t: ExecutionContext, where: net.NetConnectOpts): Promise<net.Socket> {
  const socket = dial(t, where);
  await once(socket, 'connect');
  return socket;
}

/** Sends `data`, ends, and returns all that comes back. */
export async function exchange(socket: net.Socket, data: Uint8Array | string): Promise<Buffer> {
  socket.end(data);
  return buffer(socket);
}

/** Reads to the end of a connection. Returns `end`, or the code of its error. */
export async function endingOf(socket: net.Socket): Promise<string> {
  socket.resume();
  try {
    if (socket.errored) {
      throw socket.errored;
    }
    if (!socket.readableEnded) {
      await once(socket, 'end');
    }
    return 'end';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

export function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** A temporary directory that the end of the test removes. */
export async function directory(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}
