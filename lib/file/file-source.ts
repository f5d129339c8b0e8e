// The file of a sendFile: one that the caller has opened, or one that is opened by its path for this transfer.
import { close, constants, fstat, fstatSync, open, type PathLike } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  badPath,
  type Failure,
  fileCallFailure,
  invalidValue,
  notOpen,
  openFailure,
  refusalFailure,
  thrown,
} from '../contract/errors.js';
import type { FileRange } from '../contract/file-range.js';
import { type FileCall, openFile, PreopenedFile, querySize, type Wanted } from '../core/core-file.js';
import { binding, type NativeEnd, openEnd } from '../core/core.js';
import type { DescriptorEndpoint, FileEndpoint, UnavailableEndpoint } from '../endpoint/endpoint.js';
import { positionOf } from '../endpoint/file-status.js';
import type { Preparable } from '../endpoint/preparable.js';
import { BufferReader } from '../stream/buffer-reader.js';
import { FileReader } from '../stream/files.js';
import type { Reader } from '../stream/flow.js';
import { countAsStuck, returnsSoon } from '../transfer/patience.js';
import { limitWait, type TimeLimit } from '../transfer/time-limit.js';
import { type Bounds, lengthOf, rangeOf } from './range.js';
import { sizeOfOpened } from './size.js';

const statusOf = promisify(fstat);

/** The endpoint of a file that the caller has opened. */
export type FileEndpoints = DescriptorEndpoint | FileEndpoint | UnavailableEndpoint;

/** A regular file to send. */
export interface FileSource extends Preparable {
  /** Whether every byte to send was read when the file was opened. */
  readonly isAtHand: boolean;
  /** The range to send, by the size of the file at this moment. The file must be ready. */
  range(bounds: Bounds): FileRange;
  /** The descriptor's own position; `undefined` if it cannot be determined. */
  position(): number | undefined;
  /** Drops bytes that were read when the file was opened, so that `length` of them are left. */
  shorten(length: number): void;
  /** The file as the native engine takes it, or the reason why it is not open. */
  open(): NativeEnd | PreopenedFile | Failure;
  /** The range as the source of a stream. */
  reader(range: FileRange): Reader;
  /** Closes what no transfer took; resolves when nothing of the file is open any more. */
  release(): Promise<void>;
}

/** A file that the caller has opened and keeps. */
export class CallerFile implements FileSource {
  readonly isAtHand = false;
  readonly #endpoint: FileEndpoints;
  #size: number | undefined;
  #query: FileCall | undefined;
  /** The query of the size without the core. */
  #queryInNode: Promise<void> | undefined;
  #idle: TimeLimit | undefined;
  #isHeld = false;
  #isReleased = false;

  constructor(endpoint: FileEndpoints) {
    this.#endpoint = endpoint;
  }

  get isReady(): boolean {
    return (this.#query ?? this.#queryInNode) === undefined || this.#size !== undefined;
  }

  get fd(): number {
    const endpoint = this.#endpoint;
    if (endpoint.kind === 'unavailable') return -1;
    return endpoint.kind === 'file' ? endpoint.fd : endpoint.end.fd;
  }

  /** Nothing was read yet. */
  shorten(): void {}

  hold(): void {
    this.#isHeld = true;
  }

  dispose(): void {
    this.#isHeld = false;
    if (this.#isReleased) this.#close();
  }

  range(bounds: Bounds): FileRange {
    // Without a query, the file is on a device, and its size is that of its contents.
    const size = this.#size ?? fstatSync(this.fd).size;
    return rangeOf(size, bounds.start ?? this.position(), bounds);
  }

  position(): number | undefined {
    return this.#endpoint.kind === 'descriptor' ? this.#endpoint.end.rewind(0) : positionOf(this.fd);
  }

  reader(range: FileRange): Reader {
    const { start, size } = range;
    const length = lengthOf(range, start ?? this.position());
    const endpoint = this.#endpoint;
    const rewind =
      endpoint.kind === 'descriptor' ? (bytes: number) => void endpoint.end.rewind(bytes) : undefined;
    return new FileReader(this, { position: start, length, size, rewind });
  }

  /** A file system may never answer, so the wait for it is limited. */
  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    const endpoint = this.#endpoint;
    if (endpoint.kind === 'unavailable') fail(endpoint.failure);
    else if (endpoint.kind === 'descriptor' && endpoint.end.isRemote) {
      this.#idle = limitWait(idleTimeout, fail);
      void this.#querySize(endpoint.end, ready, fail);
    } else if (endpoint.kind === 'file') {
      this.#idle = limitWait(idleTimeout, fail);
      this.#queryInNode = this.#querySizeInNode(endpoint.fd, ready, fail);
    } else ready();
  }

  /** Without the core, the threads of libuv's pool query the size. */
  async #querySizeInNode(fd: number, ready: () => void, fail: (failure: Failure) => void): Promise<void> {
    let size;
    try {
      size = await sizeOfOpened(fd, await statusOf(fd));
    } catch (error) {
      fail(openFailure(error as NodeJS.ErrnoException));
      return;
    }
    this.#idle?.stop();
    if (this.#isReleased) return;
    this.#size = size;
    ready();
  }

  /** A query that hangs must not block this thread. */
  async #querySize(end: NativeEnd, ready: () => void, fail: (failure: Failure) => void): Promise<void> {
    this.#query = querySize(end);
    const { size, refusal } = await this.#query.result;
    this.#idle?.stop();
    if (refusal === undefined) {
      this.#size = size;
      ready();
    } else {
      fail(fileCallFailure(refusal, 'source'));
    }
  }

  open(): NativeEnd | Failure {
    if (this.#endpoint.kind === 'descriptor') return this.#endpoint.end;
    if (this.#endpoint.kind === 'unavailable') return this.#endpoint.failure;
    return notOpen('there is no native core');
  }

  async release(): Promise<void> {
    this.#isReleased = true;
    this.#idle?.stop();
    this.#query?.giveUp();
    if (!this.#isHeld) this.#close();
    const query = this.#queryInNode;
    if (query !== undefined && !(await returnsSoon(query))) countAsStuck(query);
  }

  /** Closes a duplicate. Other descriptors are the caller's. */
  #close(): void {
    if (this.#endpoint.kind === 'descriptor') this.#endpoint.end.release();
  }
}

/** A file that is opened by its path for one transfer, and closed at the end in every case. */
export class PathFile implements FileSource {
  readonly #path: PathLike;
  readonly #wanted: Wanted;
  readonly #refuse: (mistake: Error) => void;
  #end: NativeEnd | PreopenedFile | undefined;
  /** The descriptor that Node opened, if there is no core. */
  #fd: number | undefined;
  #closeFd = () => {};
  /** The size when Node opened the file. */
  #size = 0;
  #isHeld = false;
  #released = false;
  #opening: FileCall | undefined;
  #idle: TimeLimit | undefined;
  #closed: Promise<void> = Promise.resolve();

  /** `refuse` is called with a caller's mistake: the path is invalid or does not name a regular file. */
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

  get isAtHand(): boolean {
    return this.#end instanceof PreopenedFile && this.#end.fd < 0;
  }

  shorten(length: number): void {
    if (this.#end instanceof PreopenedFile) this.#end.shorten(length);
  }

  hold(): void {
    this.#isHeld = true;
  }

  dispose(): void {
    this.#isHeld = false;
    if (this.#released) this.#close();
  }

  range(bounds: Bounds): FileRange {
    const size = this.#end instanceof PreopenedFile ? this.#end.size : this.#size;
    return rangeOf(size, bounds.start ?? this.position(), bounds);
  }

  position(): number {
    return 0;
  }

  reader(range: FileRange): Reader {
    const { start, size } = range;
    const length = lengthOf(range, start);
    const contents = this.#end instanceof PreopenedFile ? this.#end.contents : undefined;
    if (contents !== undefined) return new BufferReader(contents);
    return new FileReader(this, { position: start, length, size });
  }

  prepare(opened: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    this.#idle = limitWait(idleTimeout, fail);
    const ready = () => {
      this.#idle?.stop();
      opened();
    };
    const path = pathForCore(this.#path);
    this.#closed = path === undefined ? this.#openInNode(ready, fail) : this.#openInCore(path, ready, fail);
    // Node rejects some paths without a system call.
    this.#closed.catch((mistake: unknown) => this.#refuse(badPath('file', mistake as Error)));
  }

  /** Opens, inspects and reads the file in one task on a blocking thread. Node's own calls would take three. */
  async #openInCore(path: string, ready: () => void, fail: (failure: Failure) => void): Promise<void> {
    let opened;
    try {
      this.#opening = openFile(path, this.#wanted);
      opened = await this.#opening.result;
    } catch (error) {
      fail(thrown(error, 'source'));
      return;
    }
    const { file, refusal } = opened;
    if (this.#released) {
      file?.release();
    } else if (file !== undefined) {
      this.#end = file;
      ready();
    } else {
      if (refusal.errno !== undefined) fail(fileCallFailure(refusal, 'source'));
      else this.#refuse(invalidValue('file', 'must name a regular file'));
    }
  }

  #openInNode(ready: () => void, fail: (failure: Failure) => void): Promise<void> {
    const failed = (cause: NodeJS.ErrnoException) => fail(openFailure(cause));
    return new Promise((closed) => {
      // Without O_NONBLOCK, opening a FIFO would wait for a writer.
      open(this.#path, constants.O_RDONLY | constants.O_NONBLOCK, (error, fd) => {
        if (error !== null) {
          closed();
          failed(error);
          return;
        }
        fstat(fd, (cause, stat) => {
          const shut = () => close(fd, () => closed());
          if (cause !== null || !stat.isFile()) {
            shut();
            if (cause !== null) failed(cause);
            else this.#refuse(invalidValue('file', 'must name a regular file'));
            return;
          }
          void sizeOfOpened(fd, stat).then((size) => {
            this.#size = size;
            if (!this.#released && binding() === undefined) {
              this.#fd = fd;
              this.#closeFd = shut;
              ready();
              return;
            }
            if (!this.#released) this.#adopt(fd, ready, fail);
            shut();
          });
        });
      });
    });
  }

  /** Lets the core duplicate the descriptor that Node opened. */
  #adopt(fd: number, ready: () => void, fail: (failure: Failure) => void): void {
    const opened = openEnd(fd, 'source');
    if (opened.end === undefined) {
      fail(refusalFailure(opened.refusal, 'source'));
      return;
    }
    this.#end = opened.end;
    ready();
  }

  open(): NativeEnd | PreopenedFile | Failure {
    return this.#end ?? notOpen('the file is not open');
  }

  /** A file whose opening hangs is closed when it is open; one with a call in progress, when that returns. */
  async release(): Promise<void> {
    this.#released = true;
    this.#idle?.stop();
    if (this.#isHeld) return;
    this.#close();
    // The core has opened the file: no call is in progress.
    if (this.#opening !== undefined && this.#end !== undefined) return;
    if (await returnsSoon(this.#closed)) return;
    if (this.#opening !== undefined) this.#opening.giveUp();
    else countAsStuck(this.#closed);
  }

  #close(): void {
    this.#end?.release();
    this.#closeFd();
    this.#closeFd = () => {};
  }
}

/**
 * The path as the core opens it; `undefined` if Node must open the file: it reports invalid paths, and its permission
 * model (`--permission`) may deny this process some files.
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
