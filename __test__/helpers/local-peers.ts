// Clients and targets around the command line, in the test's own process.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net, { type AddressInfo, type ListenOptions } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import type { ExecutionContext } from 'ava';

/** A server that ends with the test, whatever is still connected to it. */
export async function serve(
  t: ExecutionContext,
  handle: (socket: net.Socket) => void,
  where: ListenOptions = { port: 0, host: '127.0.0.1' },
): Promise<{ server: net.Server; port: number }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket.on('close', () => sockets.delete(socket)));
    // A relay that is made to fail resets its target.
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

/** A target that sends everything back. */
export async function echo(t: ExecutionContext, where?: ListenOptions): Promise<string> {
  const { port } = await serve(t, (socket) => socket.pipe(socket), where);
  return `127.0.0.1:${port}`;
}

/** A target that keeps its connections open and says nothing. */
export async function silent(t: ExecutionContext): Promise<string> {
  const { port } = await serve(t, (socket) => socket.resume());
  return `127.0.0.1:${port}`;
}

/** An address on which nobody listens. */
export async function nobody(t: ExecutionContext): Promise<string> {
  const { server, port } = await serve(t, () => undefined);
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${port}`;
}

/** A client whose connection is under way, for one that may be reset before it is seen to be made. */
export function dial(t: ExecutionContext, where: net.NetConnectOpts): net.Socket {
  const socket = net.connect({ allowHalfOpen: true, ...where });
  // Whether a failure is right or wrong is for the test to say, by what it waits for.
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  return socket;
}

export async function connect(t: ExecutionContext, where: net.NetConnectOpts): Promise<net.Socket> {
  const socket = dial(t, where);
  await once(socket, 'connect');
  return socket;
}

/** Sends `data`, ends, and gives all that comes back. */
export async function exchange(socket: net.Socket, data: Uint8Array | string): Promise<Buffer> {
  socket.end(data);
  return buffer(socket);
}

/** How a connection ends that brings no more bytes: `end`, or the code of its error. */
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

/** A directory that is gone after the test. */
export async function directory(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}
