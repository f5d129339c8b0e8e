import type { EventEmitter } from 'node:events';
import { Readable, Writable } from 'node:stream';
import { types } from 'node:util';

/** What all of Node's writable streams have in common, HTTP responses included. */
export interface WritableLike extends EventEmitter {
  write(chunk: Uint8Array, callback: (error?: Error | null) => void): boolean;
  end(): unknown;
  destroyed?: boolean;
  errored?: Error | null;
  writableEnded?: boolean;
  writableFinished?: boolean;
  writableNeedDrain?: boolean;
  writableCorked?: number;
  uncork?(): void;
  destroy?(error: Error): unknown;
}

/** Whether something can be read from as a stream, or written to. */
export function isReadable(value: unknown): value is Readable {
  return value instanceof Readable || looksLike(value, ['read', 'on', 'pause', 'unshift']);
}

export function isWritable(value: unknown): value is WritableLike {
  return value instanceof Writable || looksLike(value, ['write', 'end', 'on']);
}

/** Whether this is what Node gives out as the socket of an HTTP/2 session: it throws where it is read or written. */
export function isSessionSocket(value: unknown): boolean {
  if (!types.isProxy(value)) return false;
  try {
    void (value as { write?: unknown }).write;
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_HTTP2_NO_SOCKET_MANIPULATION';
  }
}

function looksLike(value: unknown, methods: readonly string[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return methods.every((name) => typeof (value as Record<string, unknown>)[name] === 'function');
}
