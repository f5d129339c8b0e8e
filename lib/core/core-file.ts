// Files that the core opens to send them, and the small ones whose bytes it reads at once.

import type { NativeFiles, Refusal } from '../binding.js';
import { required } from './addon.js';

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

let files: NativeFiles | undefined;
let lastFile = 0;

/** The opened files of this thread, which its transfers take from the core by number. */
export function nativeFiles(): NativeFiles {
  files ??= new (required().NativeFiles)();
  return files;
}

/** Opens a file to send it. Resolves with a refusal when it cannot be opened or sent. */
export async function openFile(
  path: string,
  { start = 0, end, readAhead }: Wanted,
): Promise<{ file: PreopenedFile; refusal?: never } | { file?: never; refusal: Refusal }> {
  const owner = nativeFiles();
  const id = (lastFile = (lastFile + 1) % 2 ** 32);
  const opened = await owner.open(id, path, start, end, readAhead);
  return Array.isArray(opened) ? { file: new PreopenedFile(owner, id, ...opened) } : { refusal: opened };
}
