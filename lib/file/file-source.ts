import { close, constants, fstat, fstatSync, open, type PathLike } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DescriptorEndpoint, FileEndpoint, UnavailableEndpoint } from '../endpoint/endpoint.js';

import { badPath, type Failure, invalidValue, systemFailure } from '../contract/errors.js';
import { positionOf } from '../endpoint/file-status.js';
import { binding, CoreFile, type NativeEnd, openEnd, openFile, type Wanted } from '../core/core.js';
import type { Preparable } from '../endpoint/preparable.js';

/** A file that is open already. */
export type FileEndpoints = DescriptorEndpoint | FileEndpoint | UnavailableEndpoint;

/** A regular file that is to be sent, whoever opened it. */
export interface FileSource extends Preparable {
  /** What the core is given. */
  open(): NativeEnd | CoreFile | Failure;
  /** Good from when it is ready until it is released; released by whoever asked for the transfer. */
  readonly fd: number;
  /** Bytes in the file, by what it is when it is ready. */
  size(): number;
  /** Whether all that is to be sent was read when the file was opened. */
  readonly isAtHand: boolean;
  /** A copy of it. */
  readonly contents: Buffer | undefined;
  letGo(): void;
  /** Where the descriptor stands, if anybody can tell. */
  position(): number | undefined;
  /** Moves the descriptor's own position back; absent where nobody can. */
  readonly rewind: ((bytes: number) => void) | undefined;
  /** Resolves when nothing is open any more. */
  release(): Promise<void>;
}

/** A file that its caller has opened. */
export class OpenedFile implements FileSource {
  readonly isReady = true;
  readonly isAtHand = false;
  readonly contents = undefined;
  readonly #endpoint: FileEndpoints;

  constructor(endpoint: FileEndpoints) {
    this.#endpoint = endpoint;
  }

  get fd(): number {
    const endpoint = this.#endpoint;
    if (endpoint.kind === 'unavailable') return -1;
    return endpoint.kind === 'file' ? endpoint.fd : endpoint.end.fd;
  }

  size(): number {
    return fstatSync(this.fd).size;
  }

  letGo(): void {}

  position(): number | undefined {
    return this.#endpoint.kind === 'descriptor' ? this.#endpoint.end.rewind(0) : positionOf(this.fd);
  }

  get rewind(): ((bytes: number) => void) | undefined {
    const endpoint = this.#endpoint;
    return endpoint.kind === 'descriptor' ? (bytes) => void endpoint.end.rewind(bytes) : undefined;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void): void {
    if (this.#endpoint.kind === 'unavailable') fail(this.#endpoint.failure);
    else ready();
  }

  open(): NativeEnd | Failure {
    if (this.#endpoint.kind === 'descriptor') return this.#endpoint.end;
    if (this.#endpoint.kind === 'unavailable') return this.#endpoint.failure;
    return { what: 'there is no native core', code: 'EBADF', side: 'source' };
  }

  release(): Promise<void> {
    if (this.#endpoint.kind === 'descriptor') this.#endpoint.end.release();
    return Promise.resolve();
  }
}

/** A file that is opened for one transfer, and closed whatever happens. */
export class FileEnd implements FileSource {
  readonly rewind = undefined;
  readonly #path: PathLike;
  readonly #wanted: Wanted;
  readonly #refuse: (mistake: Error) => void;
  #end: NativeEnd | CoreFile | undefined;
  /** What Node opened, where there is no core to keep it. */
  #fd: number | undefined;
  #closeFd = () => {};
  #released = false;
  #closed: Promise<void> = Promise.resolve();

  /** `refuse` is called when the path names something else than a regular file. */
  constructor(path: PathLike, wanted: Wanted, refuse: (mistake: Error) => void) {
    this.#path = path;
    this.#wanted = wanted;
    this.#refuse = refuse;
  }

  get isReady(): boolean {
    return this.#end !== undefined || this.#fd !== undefined;
  }

  get fd(): number {
    return this.#end?.fd ?? this.#fd ?? -1;
  }

  size(): number {
    return this.#end instanceof CoreFile ? this.#end.size : fstatSync(this.fd).size;
  }

  get isAtHand(): boolean {
    return this.#end instanceof CoreFile && this.#end.fd < 0;
  }

  get contents(): Buffer | undefined {
    return this.#end instanceof CoreFile ? this.#end.contents : undefined;
  }

  letGo(): void {}

  position(): number {
    return 0;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void): void {
    const path = pathForCore(this.#path);
    this.#closed = path === undefined ? this.#openInNode(ready, fail) : this.#openInCore(path, ready, fail);
    // What Node finds wrong with the path, without asking the system.
    this.#closed.catch((mistake: unknown) => this.#refuse(badPath('file', mistake as Error)));
  }

  /** In one trip to a thread that may wait for a disk; Node's own calls take three. */
  async #openInCore(path: string, ready: () => void, fail: (failure: Failure) => void): Promise<void> {
    const { file, refusal } = await openFile(path, this.#wanted);
    if (this.#released) {
      file?.release();
    } else if (file !== undefined) {
      this.#end = file;
      ready();
    } else {
      const { errno, syscall = '' } = refusal;
      if (errno !== undefined) fail(systemFailure(errno, syscall, 'source'));
      else this.#refuse(invalidValue('file', 'must name a regular file'));
    }
  }

  #openInNode(ready: () => void, fail: (failure: Failure) => void): Promise<void> {
    const failed = (cause: NodeJS.ErrnoException) => fail(failureOf(cause));
    return new Promise((closed) => {
      // Without O_NONBLOCK, opening a FIFO would wait for its writer.
      open(this.#path, constants.O_RDONLY | constants.O_NONBLOCK, (error, fd) => {
        if (error !== null) {
          closed();
          failed(error);
          return;
        }
        fstat(fd, (cause, stat) => {
          const shut = () => close(fd, () => closed());
          const isWanted = cause === null && stat.isFile() && !this.#released;
          if (isWanted && binding() === undefined) {
            this.#fd = fd;
            this.#closeFd = shut;
            ready();
            return;
          }
          if (isWanted) this.#adopt(fd, ready, fail);
          shut();
          if (cause !== null) failed(cause);
          else if (!stat.isFile()) this.#refuse(invalidValue('file', 'must name a regular file'));
        });
      });
    });
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

  open(): NativeEnd | CoreFile | Failure {
    return this.#end ?? { what: 'the file is not open', code: 'EBADF', side: 'source' };
  }

  /** Closes what no transfer took; resolves when nothing is open any more. */
  async release(): Promise<void> {
    this.#released = true;
    this.#end?.release();
    this.#closeFd();
    this.#closeFd = () => {};
    await this.#closed.catch(() => {});
  }
}

/** What Node says of a file: that the system has refused it, or (`--permission`) Node itself. */
function failureOf(cause: NodeJS.ErrnoException): Failure {
  const { code = '', errno, syscall = '', message } = cause;
  if (errno !== undefined) return systemFailure(errno, syscall, 'source');
  return { what: message, code, side: 'source', cause };
}

/**
 * A path that the core may open; none where Node has to, because it finds something wrong with it, or is to keep this
 * process out of some files (`--permission`).
 */
function pathForCore(path: PathLike): string | undefined {
  const { permission } = process as { permission?: unknown };
  if (binding() === undefined || permission !== undefined) return undefined;
  try {
    const name = path instanceof URL ? fileURLToPath(path) : path;
    return typeof name === 'string' && !name.includes('\0') ? name : undefined;
  } catch {
    return undefined;
  }
}
