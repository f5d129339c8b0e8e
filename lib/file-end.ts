import { close, constants, fstat, open, type PathLike } from 'node:fs';
import { type Failure, invalidValue, systemFailure } from './errors.js';
import { type NativeEnd, openEnd } from './native.js';
import type { Preparable } from './prepared-end.js';

/** A file that is opened for one transfer, and closed whatever happens. */
export class FileEnd implements Preparable {
  readonly #path: PathLike;
  readonly #refuse: (mistake: Error) => void;
  #end: NativeEnd | undefined;
  #released = false;
  #closed: Promise<void> = Promise.resolve();

  /** `refuse` is called when the path names something else than a regular file. */
  constructor(path: PathLike, refuse: (mistake: Error) => void) {
    this.#path = path;
    this.#refuse = refuse;
  }

  get isReady(): boolean {
    return this.#end !== undefined;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void): void {
    const failed = ({ errno = 0, syscall = '' }: NodeJS.ErrnoException) =>
      fail(systemFailure(errno, syscall, 'source'));
    this.#closed = new Promise((closed) => {
      // Without O_NONBLOCK, opening a FIFO would wait for its writer.
      open(this.#path, constants.O_RDONLY | constants.O_NONBLOCK, (error, fd) => {
        if (error !== null) {
          closed();
          failed(error);
          return;
        }
        fstat(fd, (cause, stat) => {
          if (cause === null && stat.isFile() && !this.#released) this.#adopt(fd, ready, fail);
          close(fd, () => closed());
          if (cause !== null) failed(cause);
          else if (!stat.isFile()) this.#refuse(invalidValue('file', 'must name a regular file'));
        });
      });
    });
    // What Node finds wrong with the path, without asking the system.
    this.#closed.catch((mistake: unknown) => this.#refuse(mistake as Error));
  }

  #adopt(fd: number, ready: () => void, fail: (failure: Failure) => void): void {
    const opened = openEnd(fd, 'source');
    if (opened.end === undefined) {
      const { errno = 0, syscall = '' } = opened.refusal;
      fail(systemFailure(errno, syscall, 'source'));
      return;
    }
    this.#end = opened.end;
    ready();
  }

  open(): NativeEnd | Failure {
    return this.#end ?? { what: 'the file is not open', code: 'EBADF', side: 'source' };
  }

  /** Closes what no transfer took; resolves when nothing is open any more. */
  async release(): Promise<void> {
    this.#released = true;
    this.#end?.release();
    await this.#closed.catch(() => {});
  }
}
