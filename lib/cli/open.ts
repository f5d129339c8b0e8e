import { once } from 'node:events';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { capabilities } from '../../index.js';
import type { Acceptor } from './acceptor.js';
import type { Address } from './address.js';
import type { CopyEnd } from './endpoint-spec.js';
import { dial } from './sockets.js';

/** An end of a copy that is open. */
export type OpenEnd =
  | { kind: 'stdio'; what: number | typeof process.stdin | typeof process.stdout }
  | { kind: 'file'; what: FileHandle; stat: Stats }
  | { kind: 'socket'; what: Socket; address: Address };

export interface OpenOptions {
  /** Where it listens already, if it is an end that listens. */
  acceptor: Acceptor | undefined;
  /** Milliseconds. */
  connectTimeout: number;
  signal: AbortSignal;
}

export async function openSource(end: CopyEnd, options: OpenOptions): Promise<OpenEnd> {
  if (end.kind === 'stdio') {
    return { kind: 'stdio', what: capabilities().native ? 0 : process.stdin };
  }
  if (end.kind !== 'path') {
    return openSocket(end, options);
  }
  const what = await openPath(end.path, constants.O_RDONLY, options.signal);
  const stat = await what.stat();
  if (stat.isDirectory()) {
    await what.close();
    throw Object.assign(new Error(`EISDIR: is a directory, '${end.path}'`), { code: 'EISDIR' });
  }
  return { kind: 'file', what, stat };
}

/** Opens a destination, a file emptied unless it is the source. */
export async function openDestination(end: CopyEnd, source: OpenEnd, options: OpenOptions): Promise<OpenEnd> {
  if (end.kind === 'stdio') {
    return { kind: 'stdio', what: capabilities().native ? 1 : process.stdout };
  }
  if (end.kind !== 'path') {
    const opened = await openSocket(end, options);
    // A peer that answers must not be kept waiting: it might stop reading.
    opened.what.resume();
    return opened;
  }
  const what = await openPath(end.path, constants.O_WRONLY | constants.O_CREAT, options.signal);
  const stat = await what.stat();
  if (stat.isFile()) {
    if (source.kind === 'file' && source.stat.dev === stat.dev && source.stat.ino === stat.ino) {
      await what.close();
      throw new Error(`it is the same file as the source, '${end.path}'`);
    }
    await what.truncate();
  }
  return { kind: 'file', what, stat };
}

async function openSocket(end: CopyEnd & { address: Address }, options: OpenOptions) {
  const { acceptor, connectTimeout, signal } = options;
  const { address } = end;
  const what = await (acceptor?.accepted() ?? connected(address, connectTimeout, signal));
  return { kind: 'socket' as const, what, address };
}

async function connected(address: Address, timeout: number, signal: AbortSignal): Promise<Socket> {
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
  // What goes wrong with it before the copy begins is told by the copy.
  socket.on('error', () => {});
  return socket;
}

async function openPath(path: string, flags: number, signal: AbortSignal): Promise<FileHandle> {
  const opening = open(path, flags);
  const letGo = () => void releaseFifo(path);
  signal.addEventListener('abort', letGo);
  try {
    const handle = await opening;
    if (signal.aborted) {
      await handle.close();
      signal.throwIfAborted();
    }
    return handle;
  } finally {
    signal.removeEventListener('abort', letGo);
  }
}

/** Opening a FIFO waits for its other end, and a process cannot exit while a thread of Node's waits: be that end. */
async function releaseFifo(path: string): Promise<void> {
  const both = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  await both.close();
}
