import type { Failure } from '../contract/errors.js';
import type { Throttle } from '../contract/token-bucket.js';

/** What a flow takes bytes from. */
export interface Reader {
  /** Whether it has ended and nothing of it is left to take. */
  readonly isAtEnd: boolean;
  /** Whether asking for bytes makes sense now; `wake` is called when that becomes so. */
  readonly isReady: boolean;
  start(wake: () => void, fail: (failure: Failure) => void): void;
  /** At most `limit` bytes; `undefined` where there are none now, and then `wake` is called when there are. */
  take(limit: number): Buffer | undefined;
  /**
   * Lets go of the source. `rest` was taken and nobody accepted it: it goes back, first in line for the next reader.
   * Resolves with what could not go back.
   */
  release(rest: Buffer): Promise<Buffer>;
}

/** What a flow hands bytes to. */
export interface Writer {
  /** Whether it wants no more for now; `wake` is called when it does again. */
  readonly isFull: boolean;
  /** Whether it was ended before: nothing can be written to it. */
  readonly isEnded: boolean;
  /** Bytes handed over that were not accepted yet. */
  readonly pending: number;
  /** Until when, by `performance.now()`, what it has accepted may lie in a queue of the system's that a reset drops. */
  readonly queuedUntil?: number;
  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void;
  write(chunk: Buffer): void;
  /** Calls back when all that was written is accepted; ends the destination then, if it is to. */
  finish(end: boolean, done: () => void): void;
  /** Lets go of the destination; resolves with what it was handed and will never accept. */
  release(): Promise<Buffer>;
}

export interface FlowOptions {
  head: Buffer;
  length: number;
  /** Whether the destination is ended when the source has. */
  end: boolean;
  throttle: Throttle | undefined;
  /** Which of the two directions that share a throttle this is. */
  who: 0 | 1;
}

export interface FlowEvents {
  accepted(bytes: number): void;
  fail(failure: Failure): void;
  done(): void;
}

/** One direction: from a reader to a writer until the end of input or the length. */
export class Flow {
  readonly reader: Reader;
  readonly writer: Writer;
  readonly #options: FlowOptions;
  #head: Buffer;
  #remaining: number;
  #accepted = 0;
  #stopped = false;
  #isDone = false;
  #timer: NodeJS.Timeout | undefined;
  #events: FlowEvents | undefined;

  constructor(reader: Reader, writer: Writer, options: FlowOptions) {
    this.reader = reader;
    this.writer = writer;
    this.#options = options;
    this.#head = options.head;
    this.#remaining = options.length;
  }

  /** Whether it waits for its limiter: that is not idleness. */
  get isLimited(): boolean {
    return this.#timer !== undefined;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  start(events: FlowEvents): void {
    this.#events = events;
    const fail = (failure: Failure) => events.fail(failure);
    const accepted = (bytes: number) => {
      this.#accepted += bytes;
      events.accepted(bytes);
    };
    this.writer.start(this.#pump, accepted, fail);
    this.reader.start(this.#pump, fail);
    if (this.writer.isEnded) this.#finish();
    else this.#pump();
  }

  /** Takes nothing more; what the writer holds may still be accepted. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#options.throttle?.leave(this.#options.who);
    this.#options.throttle?.giveBack();
  }

  /** Lets go of both ends; resolves with what can be given back to nobody. */
  async release(): Promise<Buffer> {
    const rest = await this.writer.release();
    // Bytes of the head never came from the source: they do not go back there.
    const ofHead = Math.max(0, this.#options.head.length - this.#accepted);
    return this.reader.release(rest.subarray(Math.min(rest.length, ofHead)));
  }

  readonly #pump = (): void => {
    const { reader, writer } = this;
    const { throttle, who } = this.#options;
    // Invariant: what was taken from the reader has been handed to the writer: nothing is held here.
    while (!this.#stopped && this.#timer === undefined) {
      // Nothing left to write waits for no room.
      if (this.#head.length === 0 && (this.#remaining === 0 || reader.isAtEnd)) {
        this.#finish();
        break;
      }
      if (writer.isFull) break;
      if (this.#head.length > 0) {
        const head = this.#head;
        this.#head = Buffer.alloc(0);
        writer.write(head);
        continue;
      }
      if (!reader.isReady) break;
      let allowed = this.#remaining;
      if (throttle !== undefined) {
        const piece = throttle.quantum(who);
        if (piece < 0) {
          this.#timer = setTimeout(this.#resume, -piece);
          return;
        }
        allowed = Math.min(allowed, piece);
      }
      const chunk = reader.take(allowed);
      if (chunk === undefined) break;
      throttle?.used(who, chunk.length);
      this.#remaining -= chunk.length;
      writer.write(chunk);
    }
    // It may have asked for a piece: the other direction is not to wait until it is used.
    if (this.#timer === undefined) throttle?.leave(who);
  };

  readonly #resume = (): void => {
    this.#timer = undefined;
    this.#pump();
  };

  #finish(): void {
    this.stop();
    this.writer.finish(this.#options.end, () => {
      if (this.#isDone) return;
      this.#isDone = true;
      this.#events?.done();
    });
  }
}
