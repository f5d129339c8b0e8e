// The arithmetic of byte ranges: which part of a file is sent, given what the caller asked for and the size of the file.
import type { FileRange } from '../contract/file-range.js';

/** First and last byte as the caller asked for them. */
export interface Bounds {
  start: number | undefined;
  /** Inclusive. */
  end: number | undefined;
}

/**
 * The range to send of a file of `size` bytes. `first` is the byte where sending begins: `start` or the position of the
 * descriptor; `undefined` if the position is unknown.
 */
export function rangeOf(size: number, first: number | undefined, { start, end }: Bounds): FileRange {
  // Files in procfs report size 0 and have content: they are read until their end.
  if (size === 0 || first === undefined) return { start, last: end, length: undefined, size: undefined };
  const behind = Math.min(size, (end ?? Infinity) + 1);
  return { start, last: behind - 1, length: Math.max(0, behind - first), size: behind };
}

/** The bytes from `first` to the last byte of a range whose file does not report its size; `undefined`: no last byte. */
export function lengthToLast(first: number, { last }: FileRange): number | undefined {
  return last === undefined ? undefined : Math.max(0, last + 1 - first);
}
