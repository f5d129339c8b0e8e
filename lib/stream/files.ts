// Regular files as the ends of a flow, read and written on the threads of libuv's pool. A call that hangs there outlives its
// transfer: its file is disposed of when it returns.
import { fstat, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { setTimeout } from '../contract/clock.js';
import { type Failure, systemFailure, thrown, truncated } from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';
import { countAsStuck, returnsSoon } from '../transfer/patience.js';
import type { Reader, Writer } from './flow.js';

/** Maximum bytes per call. An abort waits for the call in progress. */
const MAX_CALL_BYTES = 256 * 1024;

/** Milliseconds between calls on a file that returns `EAGAIN`. Nothing reports when it is ready. */
const PAUSE_MS = 50;

const stat = promisify(fstat);

/** Makes a call on a file, and repeats it after a pause while it returns `EAGAIN`. */
async function repeated(call: () => Promise<number>, isReleased: () => boolean): Promise<number> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (isReleased()) return 0;
  }
}

function failed(side: Side, error: unknown): Failure {
  const { errno, syscall } = error as NodeJS.ErrnoException;
  return errno === undefined || syscall === undefined
    ? thrown(error, side)
    : systemFailure(errno, syscall, side);
}

/** The part of a file that a reader reads. */
export interface ReadRange {
  /** Where to start; absent: at the descriptor's own position, which then advances. */
  position: number | undefined;
  /** Bytes to read; absent: until the end of the file. */
  length?: number | undefined;
  /** Size below which the file counts as truncated when it ends before `length`; absent: it is never truncated. */
  size?: number | undefined;
  /** Moves the descriptor's own position back by a number of bytes; absent if that is impossible. */
  rewind?: ((bytes: number) => void) | undefined;
}

/** An open file. Its owner keeps it open until `dispose`. */
export interface HeldFile {
  readonly fd: number;
  /** Kept reachable while the file is in use, because its finalizer would close the descriptor. */
  readonly owner?: unknown;
  /** Keeps it open until `dispose`, although its owner releases it before: a call on it hangs. */
  hold?(): void;
  dispose(): void;
}

/** Waits for the calls in progress. Resolves with `false` if one hangs; `returned` is then called when they have returned. */
async function areOver(calls: Promise<void> | undefined, returned: () => void): Promise<boolean> {
  if (calls === undefined || (await returnsSoon(calls))) return true;
  countAsStuck(calls);
  void calls.then(returned);
  return false;
}

/** Reads a regular file. */
export class FileReader implements Reader {
  readonly #file: HeldFile;
  readonly #range: ReadRange;
  #position: number | undefined;
  #taken = 0;
  #buffered: Buffer = Buffer.alloc(0);
  #running: Promise<void> | undefined;
  #ended = false;
  #isReleased = false;
  #wake: () => void = () => {};
  #fail: (failure: Failure) => void = () => {};

  constructor(file: HeldFile, range: ReadRange) {
    this.#file = file;
    this.#range = range;
    this.#position = range.position;
  }

  get isAtEnd(): boolean {
    return this.#ended && this.#buffered.length === 0;
  }

  get isReady(): boolean {
    return this.#running === undefined;
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    this.#wake = wake;
    this.#fail = fail;
  }

  take(limit: number): Buffer | undefined {
    if (this.#buffered.length > 0) {
      const chunk = this.#buffered.subarray(0, limit);
      this.#buffered = this.#buffered.subarray(chunk.length);
      return chunk;
    }
    this.#running ??= this.#read(limit);
    return undefined;
  }

  async #read(limit: number): Promise<void> {
    const left = (this.#range.length ?? Infinity) - this.#taken;
    const size = Math.min(MAX_CALL_BYTES, limit, left);
    try {
      const got =
        size > 0
          ? await repeated(
              () => this.#fill(size),
              () => this.#isReleased,
            )
          : 0;
      this.#ended = got === 0;
      if (this.#ended && left > 0 && !this.#isReleased && (await this.#isShorter())) {
        this.#fail(truncated());
      }
    } catch (error) {
      this.#fail(failed('source', error));
    }
    this.#running = undefined;
    if (!this.#isReleased) this.#wake();
  }

  /** Compares sizes, because files in sysfs report the size of a page and end earlier. */
  async #isShorter(): Promise<boolean> {
    const { size } = this.#range;
    return size !== undefined && (await stat(this.#file.fd)).size < size;
  }

  #fill(size: number): Promise<number> {
    const buffer = Buffer.allocUnsafe(size);
    return new Promise((resolve, reject) => {
      read(this.#file.fd, buffer, 0, size, this.#position ?? null, (error, got) => {
        if (error !== null) {
          reject(error);
          return;
        }
        if (this.#position !== undefined) this.#position += got;
        this.#taken += got;
        this.#buffered = buffer.subarray(0, got);
        resolve(got);
      });
    });
  }

  /** After a read that hangs, the position of the file is unknown, and asking for it could hang too. */
  async release(rest: Buffer): Promise<Buffer> {
    this.#isReleased = true;
    const dispose = () => this.#file.dispose();
    if (!(await areOver(this.#running, dispose))) {
      this.#file.hold?.();
      return this.#range.position === undefined ? rest : Buffer.alloc(0);
    }
    const left = this.#giveBack(rest);
    dispose();
    return left;
  }

  #giveBack(rest: Buffer): Buffer {
    const unread = Buffer.concat([rest, this.#buffered]);
    this.#buffered = Buffer.alloc(0);
    // Reads at an explicit position have not moved the descriptor's own.
    if (unread.length === 0 || this.#range.position !== undefined) return Buffer.alloc(0);
    if (this.#range.rewind === undefined) return unread;
    this.#range.rewind(unread.length);
    return Buffer.alloc(0);
  }
}

/** Writes a regular file. */
export class FileWriter implements Writer {
  readonly isEnded = false;
  readonly #file: HeldFile;
  #position: number | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #running: Promise<void> | undefined;
  #failed = false;
  #released = false;
  #isStuck = false;
  /** Bytes in the call in progress. */
  #inCall = 0;
  #wake: () => void = () => {};
  #accepted: (bytes: number) => void = () => {};
  #fail: (failure: Failure) => void = () => {};
  #flushed: (() => void) | undefined;

  /** Without `position` it writes at the descriptor's own position, or appends with `O_APPEND`. */
  constructor(file: HeldFile, position: number | undefined) {
    this.#file = file;
    this.#position = position;
  }

  get isFull(): boolean {
    return this.#rest.length > 0;
  }

  get pending(): number {
    return this.#rest.length;
  }

  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void {
    this.#wake = wake;
    this.#accepted = accepted;
    this.#fail = fail;
  }

  write(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    // Invariant: `#rest` holds the bytes given to `write` that no system call has written yet.
    while (this.#rest.length > 0 && !this.#failed && !this.#released) {
      try {
        const written = await repeated(
          () => this.#call(),
          () => this.#released,
        );
        if (this.#isStuck) return;
        this.#rest = this.#rest.subarray(written);
        this.#inCall = 0;
        if (this.#position !== undefined) this.#position += written;
        this.#accepted(written);
      } catch (error) {
        this.#failed = true;
        this.#fail(failed('destination', error));
      }
    }
    this.#running = undefined;
    if (this.#failed || this.#isStuck) return;
    this.#flushed?.();
    this.#wake();
  }

  #call(): Promise<number> {
    const size = Math.min(MAX_CALL_BYTES, this.#rest.length);
    this.#inCall = size;
    return new Promise((resolve, reject) => {
      write(this.#file.fd, this.#rest, 0, size, this.#position ?? null, (error, written) => {
        if (error === null) resolve(written);
        else reject(error);
      });
    });
  }

  finish(_end: boolean, done: () => void): void {
    this.#flushed = done;
    if (this.#rest.length === 0) done();
  }

  /** The bytes of a write that hangs may still be written, so they are not given back. */
  async release(): Promise<Buffer> {
    this.#released = true;
    const dispose = () => this.#file.dispose();
    if (!(await areOver(this.#running, dispose))) {
      this.#file.hold?.();
      this.#isStuck = true;
      return this.#rest.subarray(this.#inCall);
    }
    dispose();
    return this.#rest;
  }
}
