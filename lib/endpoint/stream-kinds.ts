// Distinguishes kinds of streams by their methods, because not every stream inherits from Node's classes.
import type { EventEmitter } from 'node:events';
import { Readable, Writable } from 'node:stream';
import { types } from 'node:util';

/** The part that all writable streams of Node have in common, HTTP responses included. */
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

/** Whether a value can be read from as a stream. */
export function isReadable(value: unknown): value is Readable {
  return value instanceof Readable || looksLike(value, ['read', 'on', 'pause', 'unshift']);
}

/** Whether a value can be written to as a stream. */
export function isWritable(value: unknown): value is WritableLike {
  return value instanceof Writable || looksLike(value, ['write', 'end', 'on']);
}

/** Whether this is the Proxy that Node gives out as the socket of an HTTP/2 session: reading and writing it throws. */
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
