import type { FileSource } from './file-source.js';
import { BytesReader } from '../stream/buffer-reader.js';
import { FileReader } from '../stream/files.js';
import type { Reader } from '../stream/flow.js';

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
  const size = from.size();
  const begin = start ?? from.position();
  // Files of procfs say that they are empty.
  const end = size === 0 ? undefined : Math.min(size, (last ?? Infinity) + 1);
  if (end === undefined || begin === undefined)
    return { position: start, length: undefined, size: undefined };
  return { position: start, length: Math.max(0, end - begin), size: end };
}

/** Reads that part for streams. */
export function readerOfRange(from: FileSource, range: Range): Reader {
  const { contents } = from;
  if (contents === undefined) return new FileReader(from, { ...range, rewind: from.rewind });
  return new BytesReader(contents);
}
