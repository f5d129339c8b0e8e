import { fstatSync } from 'node:fs';
import type { FileSource } from './file-end.js';

export interface Range {
  /** Where to read; absent where the descriptor's own position is meant, and moves. */
  position: number | undefined;
  /** Bytes to send; absent for a file that does not say how long it is. */
  length: number | undefined;
  /** What the file has to have for all of them. */
  size: number | undefined;
}

/** The part of a file that is to be sent, by what it is at this moment. */
export function rangeOf(
  from: FileSource,
  { start, end: last }: { start: number | undefined; end: number | undefined },
): Range {
  const { size } = fstatSync(from.fd);
  const begin = start ?? from.position();
  // Files of procfs say that they are empty.
  const end = size === 0 ? undefined : Math.min(size, (last ?? Infinity) + 1);
  if (end === undefined || begin === undefined)
    return { position: start, length: undefined, size: undefined };
  return { position: start, length: Math.max(0, end - begin), size: end };
}
