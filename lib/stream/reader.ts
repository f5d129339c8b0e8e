import type { Duplex, Readable } from 'node:stream';
import { type Failure, streamDestroyed, streamFailure } from '../contract/errors.js';
import { holdReads, letReadsGo } from '../node/held-reads.js';
import { Shadow } from '../node/overlay.js';
import type { Side } from '../contract/traffic.js';
import type { Reader } from './flow.js';

/** Whose stream it is: lent by a caller who goes on with it, or handed over for good. */
export type Ownership = 'lent' | 'handed over';

/** Reads from a Node stream without emitting 'data': the bytes are not meant for its listeners any more. */
export class StreamReader implements Reader {
  readonly #side: Side;
  readonly #stream: Readable & { allowHalfOpen?: boolean };
  readonly #ownership: Ownership;
  readonly #isStdin: boolean;
  readonly #shadow: Shadow;
  readonly #flowing: boolean | null;
  readonly #allowedHalfOpen: boolean | undefined;
  #listeners: [event: string, listener: (error: Error) => void][] = [];
  #failed: (error: Error) => void = () => {};
  #ended = false;
  /** The end of input shows only when an empty stream is read from. */
  #isToBeAsked = true;

  constructor(side: Side, stream: Readable, ownership: Ownership) {
    this.#side = side;
    this.#stream = stream;
    this.#ownership = ownership;
    // Node makes its own when it is first asked for.
    this.#isStdin = 'fd' in stream && stream === process.stdin;
    this.#flowing = stream.readableFlowing;
    this.#shadow = new Shadow(stream);
    holdReads(stream);
    const emit = stream.emit.bind(stream) as (event: string | symbol, ...args: unknown[]) => boolean;
    this.#shadow.lay('emit', (event: string | symbol, ...args: unknown[]) => {
      // Node would stop reading process.stdin a tick after a 'pause', though the transfer has asked for more by then.
      if (event === 'data' || (event === 'pause' && this.#isStdin)) return false;
      if (event !== 'error' || ownership === 'lent') return emit(event, ...args);
      // What a relay's stream reports is in the result alone; `errored` still has it.
      this.#failed(args[0] as Error);
      return true;
    });
    this.#allowedHalfOpen = this.#stream.allowHalfOpen;
    // Otherwise the end of input would end the other direction too.
    if (this.#allowedHalfOpen === false) this.#stream.allowHalfOpen = true;
    stream.pause();
  }

  get isAtEnd(): boolean {
    return this.#ended;
  }

  get isReady(): boolean {
    return this.#ended || this.#isToBeAsked || this.#stream.readableLength > 0;
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    const stream = this.#stream;
    if (stream.readableEnded) this.#ended = true;
    this.#failed = (error) => fail(streamFailure(this.#side, error));
    if (this.#ownership === 'lent') this.#on('error', this.#failed);
    this.#on('close', () => {
      if (!this.#ended) fail(streamDestroyed(this.#side, stream));
    });
    this.#on('end', () => {
      this.#ended = true;
      wake();
    });
    this.#on('readable', () => {
      this.#isToBeAsked = true;
      wake();
    });
  }

  take(limit: number): Buffer | undefined {
    const stream = this.#stream;
    const chunk = (stream.readableLength > limit ? stream.read(limit) : stream.read()) as Uint8Array | null;
    if (chunk === null) {
      this.#isToBeAsked = false;
      return undefined;
    }
    const bytes = Buffer.isBuffer(chunk)
      ? chunk
      : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (bytes.length <= limit) return bytes;
    // A source that answers at once adds to what it has before it gives all of that.
    stream.unshift(bytes.subarray(limit));
    return bytes.subarray(0, limit);
  }

  release(rest: Buffer): Promise<Buffer> {
    const stream = this.#stream;
    letReadsGo(stream);
    for (const [event, listener] of this.#listeners) stream.off(event, listener);
    this.#listeners = [];
    this.#failed = () => {};
    if (this.#ownership === 'handed over') return Promise.resolve(rest);
    this.#shadow.lift();
    if (this.#allowedHalfOpen === false) {
      this.#stream.allowHalfOpen = false;
      // What Node does at the end of input of such a stream, which it has passed by now.
      if (stream.readableEnded) (stream as Duplex).end();
    }
    if (stream.destroyed || stream.readableEnded) return Promise.resolve(rest);
    if (rest.length > 0) stream.unshift(rest);
    if (this.#flowing === true) stream.resume();
    if (this.#flowing !== false && !this.#isStdin) return Promise.resolve(Buffer.alloc(0));
    // Node stops reading what nobody reads, and lets the process end then, a tick after it has heard this.
    if (this.#isStdin && this.#flowing === null) stream.emit('pause');
    // In the next tick Node would make it flow, because nobody waits for 'readable' any more: what its owner says behind
    // the copy has to come after that.
    return new Promise((resolve) =>
      process.nextTick(() => {
        if (this.#flowing === false) stream.pause();
        resolve(Buffer.alloc(0));
      }),
    );
  }

  #on(event: string, listener: (error: Error) => void): void {
    this.#stream.on(event, listener);
    this.#listeners.push([event, listener]);
  }
}
