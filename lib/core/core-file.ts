// Files that the core opens to send them, and the small ones whose bytes it reads at once.

import type { NativeEnd, NativeFiles, Refusal } from '../binding.js';
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
/** The functions that take the results of calls, by the numbers of their files. */
const waiting = new Map<number, (result: FileResult) => void>();

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
    const file = new PreopenedFile(nativeFiles(), id, size, fd);
    settle(id, refusal === undefined ? { file, size } : { refusal });
  }
}

function settle(id: number, result: FileResult): void {
  const take = waiting.get(id);
  if (take === undefined) {
    // Given up while the result was on its way.
    result.file?.release();
    return;
  }
  waiting.delete(id);
  letProcessEnd();
  take(result);
}

/** Starts a call. `begin` returns a refusal if it cannot be started. */
function start(begin: (files: NativeFiles, id: number) => Refusal | null): FileCall {
  const owner = nativeFiles();
  const id = (lastFile = (lastFile + 1) % 2 ** 32);
  const result = new Promise<FileResult>((resolve) => waiting.set(id, resolve));
  keepProcessAlive();
  const refusal = begin(owner, id);
  if (refusal !== null) settle(id, { refusal });
  const giveUp = () => {
    if (!waiting.delete(id)) return;
    letProcessEnd();
    owner.release(id);
  };
  return { result, giveUp };
}

/** Opens a file to send it. */
export function openFile(path: string, { start: first = 0, end, readAhead }: Wanted): FileCall {
  return start((owner, id) => owner.open(id, path, first, end, readAhead));
}

/** Queries the size of a file that the caller has opened. */
export function querySize(end: NativeEnd): FileCall {
  return start((owner, id) => owner.querySize(id, end));
}
