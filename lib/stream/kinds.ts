import { Readable, Writable } from 'node:stream';
import type { WritableLike } from './writer.js';

/** Whether something can be read from as a stream, or written to. */
export function isReadable(value: unknown): value is Readable {
  return value instanceof Readable || looksLike(value, ['read', 'on', 'pause', 'unshift']);
}

export function isWritable(value: unknown): value is WritableLike {
  return value instanceof Writable || looksLike(value, ['write', 'end', 'on']);
}

function looksLike(value: unknown, methods: readonly string[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return methods.every((name) => typeof (value as Record<string, unknown>)[name] === 'function');
}
