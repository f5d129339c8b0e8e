// The arithmetic of byte ranges: which part of a file is sent, given what the caller asked for and the size of the file.
// The size is 0 if it is not known.
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
  // The size of a file in procfs or sysfs is not known: it is read until its end.
  if (size === 0 || first === undefined) return { start, last: end, length: undefined, size: undefined };
  const behind = Math.min(size, (end ?? Infinity) + 1);
  return { start, last: behind - 1, length: Math.max(0, behind - first), size: behind };
}

/** The bytes to read of a range, which `end` also bounds where the size of the file is not known. */
export function lengthOf({ length, last }: FileRange, first = 0): number | undefined {
  if (length !== undefined || last === undefined) return length;
  return Math.max(0, last + 1 - Math.max(0, first));
}
