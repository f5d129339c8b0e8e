import type { Reader } from './flow.js';

/** Reads what is in memory already. */
export class BytesReader implements Reader {
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

  /** Nobody else reads them: they need not go back. */
  release(): Promise<Buffer> {
    return Promise.resolve(Buffer.alloc(0));
  }
}
