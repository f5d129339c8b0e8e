// The source of a flow whose bytes are in memory: a small file that was read when it was opened.
import type { Reader } from './flow.js';

/** Reads from a buffer. */
export class BufferReader implements Reader {
  readonly isReady = true;
  #left: Buffer;

  constructor(bytes: Buffer) {
    this.#left = bytes;
  }

  get isAtEnd(): boolean {
    return this.#left.length === 0;
  }

  start(): void {}

  take(limit: number): Buffer | undefined {
    const chunk = this.#left.subarray(0, limit);
    this.#left = this.#left.subarray(chunk.length);
    return chunk.length === 0 ? undefined : chunk;
  }

  /** The buffer belongs to the transfer alone, so nothing goes back. */
  release(): Promise<Buffer> {
    return Promise.resolve(Buffer.alloc(0));
  }
}
