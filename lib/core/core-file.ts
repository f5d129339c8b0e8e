// Files that the core opens to send or copy them, and the small ones that it reads or copies at once.

import type { NativeEnd, NativeFiles, PathSpec, Refusal } from '../binding.js';
import { required } from './addon.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';

/** The range of a file to send, as far as it is known before the file is open. */
export interface Wanted {
  start: number | undefined;
  /** The last byte. */
  end: number | undefined;
  /** Whether the bytes of a small range may be read when the file is opened. */
  readAhead: boolean;
}

/** A regular file that the core has opened to send it. */
export class PreopenedFile {
  readonly #files: NativeFiles;
  /** The number that identifies it in the core. */
  readonly id: number;
  /** Bytes in the file when it was opened. */
  readonly size: number;
  /** Valid until the file is given to a transfer; -1 when its bytes were read ahead. */
  readonly fd: number;

  constructor(files: NativeFiles, id: number, size: number, fd: number) {
    this.#files = files;
    this.id = id;
    this.size = size;
    this.fd = fd;
  }

  /** A copy of the bytes that were read ahead. */
  get contents(): Buffer | undefined {
    return this.#files.unsent(this.id) ?? undefined;
  }

  /**
   * Sends the bytes that were read ahead, as far as a socket accepts them without waiting. Returns whether that was all
   * of them.
   */
  sendNow(socket: number): boolean {
    return this.#files.sendNow(this.id, socket);
  }

  /** Drops bytes that were read ahead, so that at most `length` of them are left. */
  shorten(length: number): void {
    this.#files.shorten(this.id, length);
  }

  /** Closes the file if no transfer has taken it. */
  release(): void {
    this.#files.release(this.id);
  }
}

/** The result of a call on a file: an opened file, the size of one that the caller has opened, or a refusal. */
export type FileResult =
  { file: PreopenedFile; size: number; refusal?: never } | { file?: never; size?: never; refusal: Refusal };

/** A call on a file that runs on a thread of the core. */
export interface FileCall {
  readonly result: Promise<FileResult>;
  /** Gives the call up: its result is dropped when it returns. Does nothing when it has returned. */
  giveUp(): void;
}

let files: NativeFiles | undefined;
let lastFile = 0;
/** A result as the core delivers it. */
interface RawResult {
  size: number;
  fd: number;
  refusal: Refusal | undefined;
}

/** The functions that take the results of calls, by the numbers of their files. */
const waiting = new Map<number, (result: RawResult) => void>();

/** The opened files of this thread, which its transfers take from the core by number. */
export function nativeFiles(): NativeFiles {
  files ??= new (required().NativeFiles)(deliver);
  return files;
}

/** Three numbers for each result, and one refusal for each whose size is -1; crates/fdsplice-node/src/files.rs encodes them. */
function deliver(numbers: number[], refusals: Refusal[]): void {
  let refused = 0;
  for (let at = 0; at < numbers.length; at += 3) {
    const [id = 0, size = 0, fd = -1] = numbers.slice(at, at + 3);
    const refusal = size < 0 ? refusals[refused++] : undefined;
    settle(id, { size, fd, refusal });
  }
}

function settle(id: number, result: RawResult): void {
  const take = waiting.get(id);
  if (take === undefined) {
    // Given up while the result was on its way.
    nativeFiles().release(id);
    return;
  }
  waiting.delete(id);
  letProcessEnd();
  take(result);
}

/** Starts a call on one file. */
function start(begin: (files: NativeFiles, id: number) => Refusal | null): FileCall {
  return call(begin, (owner, id, { size, fd, refusal }) =>
    refusal === undefined ? { file: new PreopenedFile(owner, id, size, fd), size } : { refusal },
  );
}

/** Starts a call. `begin` returns a refusal if it cannot be started. */
function call<R>(
  begin: (files: NativeFiles, id: number) => Refusal | null,
  decode: (files: NativeFiles, id: number, result: RawResult) => R,
): { id: number; result: Promise<R>; giveUp: () => void } {
  const owner = nativeFiles();
  const id = (lastFile = (lastFile + 1) % 2 ** 32);
  const result = new Promise<R>((resolve) => waiting.set(id, (raw) => resolve(decode(owner, id, raw))));
  keepProcessAlive();
  const refusal = begin(owner, id);
  if (refusal !== null) settle(id, { size: -1, fd: -1, refusal });
  const giveUp = () => {
    if (!waiting.delete(id)) return;
    letProcessEnd();
    owner.release(id);
  };
  return { id, result, giveUp };
}

/** Opens a file to send it. */
export function openFile(path: string, { start: first = 0, end, readAhead }: Wanted): FileCall {
  return start((owner, id) => owner.open(id, path, first, end, readAhead));
}

/** Queries the size of a file that the caller has opened. */
export function querySize(end: NativeEnd): FileCall {
  return start((owner, id) => owner.querySize(id, end));
}

/** The result of opening the ends of a copy that are paths. */
export type PathResult =
  | { kind: 'copied'; bytes: number; zeroCopy: number }
  | { kind: 'opened'; source: NativeEnd | null; destination: NativeEnd | null }
  | { kind: 'refused'; refusal: Refusal };

/** The opening of the ends of a copy, on a thread of the core. */
export interface PathCall {
  readonly result: Promise<PathResult>;
  /** Keeps the call from opening, creating, truncating or copying anything more. Its result follows. */
  stop(): void;
  /** Gives the call up: its result is dropped when it returns. Does nothing when it has returned. */
  giveUp(): void;
}

/** Opens the ends of a copy that are paths. `source` is the other end, if that is a file that is open already. */
export function openPaths(paths: PathSpec, source?: NativeEnd): PathCall {
  const { id, result, giveUp } = call((owner, id) => owner.openPaths(id, paths, source), decodePaths);
  return { result, giveUp, stop: () => nativeFiles().stop(id) };
}

/** The third number of a result for the files of a copy; crates/fdsplice-node/src/files.rs has the same values. */
const [COPIED_IN_KERNEL, OPENED] = [1, 2];

function decodePaths(owner: NativeFiles, id: number, { size, fd, refusal }: RawResult): PathResult {
  if (refusal !== undefined) return { kind: 'refused', refusal };
  if (fd !== OPENED) return { kind: 'copied', bytes: size, zeroCopy: fd === COPIED_IN_KERNEL ? size : 0 };
  const [source, destination] = [owner.takeSource(id), owner.takeDestination(id)];
  owner.release(id);
  return { kind: 'opened', source, destination };
}
