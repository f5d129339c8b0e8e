// Opens the endpoints of `fdsplice copy`.
import { once } from 'node:events';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { capabilities } from '../../index.js';
import type { Acceptor } from './acceptor.js';
import type { AddressSpec } from '../contract/address-text.js';
import type { EndpointSpec } from './endpoint-spec.js';
import { dial } from './sockets.js';

/** An open endpoint. */
export type OpenEndpoint =
  | { kind: 'stdio'; handle: number | typeof process.stdin | typeof process.stdout }
  | { kind: 'file'; handle: FileHandle; stat: Stats }
  | { kind: 'socket'; handle: Socket; address: AddressSpec };

export interface OpenOptions {
  /** The acceptor of an endpoint that listens. */
  acceptor: Acceptor | undefined;
  /** Milliseconds. */
  connectTimeout: number;
  signal: AbortSignal;
}

/** Opens a source. */
export async function openSource(spec: EndpointSpec, options: OpenOptions): Promise<OpenEndpoint> {
  if (spec.kind === 'stdio') {
    return { kind: 'stdio', handle: capabilities().native ? 0 : process.stdin };
  }
  if (spec.kind !== 'path') {
    return openSocket(spec, options);
  }
  const handle = await openPath(spec.path, constants.O_RDONLY, options.signal);
  const stat = await handle.stat();
  if (stat.isDirectory()) {
    await handle.close();
    throw Object.assign(new Error(`EISDIR: is a directory, '${spec.path}'`), { code: 'EISDIR' });
  }
  return { kind: 'file', handle, stat };
}

/** Opens a destination. A file is truncated; one that is the source too is rejected. */
export async function openDestination(
  spec: EndpointSpec,
  source: OpenEndpoint,
  options: OpenOptions,
): Promise<OpenEndpoint> {
  if (spec.kind === 'stdio') {
    return { kind: 'stdio', handle: capabilities().native ? 1 : process.stdout };
  }
  if (spec.kind !== 'path') {
    const opened = await openSocket(spec, options);
    // Bytes from the peer are read and dropped: a peer whose answer is never read may stop reading itself.
    opened.handle.resume();
    return opened;
  }
  const handle = await openPath(spec.path, constants.O_WRONLY | constants.O_CREAT, options.signal);
  const stat = await handle.stat();
  if (stat.isFile()) {
    if (source.kind === 'file' && source.stat.dev === stat.dev && source.stat.ino === stat.ino) {
      await handle.close();
      throw new Error(`it is the same file as the source, '${spec.path}'`);
    }
    await handle.truncate();
  }
  return { kind: 'file', handle, stat };
}

async function openSocket(spec: EndpointSpec & { address: AddressSpec }, options: OpenOptions) {
  const { acceptor, connectTimeout, signal } = options;
  const { address } = spec;
  const handle = await (acceptor?.accepted() ?? connected(address, connectTimeout, signal));
  return { kind: 'socket' as const, handle, address };
}

async function connected(address: AddressSpec, timeout: number, signal: AbortSignal): Promise<Socket> {
  const deadline = AbortSignal.timeout(timeout);
  const socket = dial(address);
  try {
    await once(socket, 'connect', { signal: AbortSignal.any([signal, deadline]) });
  } catch (error) {
    socket.destroy();
    throw deadline.aborted && !signal.aborted
      ? Object.assign(new Error(`no answer within ${timeout} ms`), { code: 'ETIMEDOUT' })
      : error;
  }
  // Without a listener, an error before the copy starts would be thrown. The copy reports it.
  socket.on('error', () => {});
  return socket;
}

async function openPath(path: string, flags: number, signal: AbortSignal): Promise<FileHandle> {
  const opening = open(path, flags);
  const release = () => void releaseFifo(path);
  signal.addEventListener('abort', release);
  try {
    const handle = await opening;
    if (signal.aborted) {
      await handle.close();
      signal.throwIfAborted();
    }
    return handle;
  } finally {
    signal.removeEventListener('abort', release);
  }
}

/**
 * Ends the `open()` of a FIFO, which waits for the other end, by opening that end. The process could not exit while one of
 * Node's threads is blocked in the call.
 */
async function releaseFifo(path: string): Promise<void> {
  const both = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  await both.close();
}
