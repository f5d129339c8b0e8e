// One direction of a transfer on the stream engine, and the interfaces of its two ends.
import { clearTimeout, setTimeout } from '../contract/clock.js';
import { type Failure, thrown } from '../contract/errors.js';
import type { Throttle } from '../contract/token-bucket.js';
import { attempt } from '../transfer/attempt.js';

/** The source of a flow. */
export interface Reader {
  /** Whether the source has ended and every byte of it was taken. */
  readonly isAtEnd: boolean;
  /** Whether `take` may return bytes or an end; `wake` is called when this becomes true. */
  readonly isReady: boolean;
  start(wake: () => void, fail: (failure: Failure) => void): void;
  /** At most `limit` bytes; `undefined` if there are none yet, and `wake` is then called when there are. */
  take(limit: number): Buffer | undefined;
  /**
   * Releases the source. `rest` was taken and not accepted by the destination: it goes back, in front of what the next
   * reader gets. Resolves with the bytes that could not go back.
   */
  release(rest: Buffer): Promise<Buffer>;
}

/** The destination of a flow. */
export interface Writer {
  /** Whether it exerts backpressure; `wake` is called when it accepts bytes again. */
  readonly isFull: boolean;
  /** Whether its owner has ended it, so that nothing can be written to it. */
  readonly isEnded: boolean;
  /** Bytes that were written and not accepted yet. */
  readonly pending: number;
  /** Time by `now()` until which accepted bytes may still be in a kernel queue that a reset drops. */
  readonly queuedUntil?: number;
  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void;
  write(chunk: Buffer): void;
  /** Calls `done` when everything written is accepted and, with `end`, the destination was ended. */
  finish(end: boolean, done: () => void): void;
  /** Releases the destination; resolves with the bytes that were written and will never be accepted. */
  release(): Promise<Buffer>;
}

export interface FlowOptions {
  /** Bytes to write before anything from the source. */
  head: Buffer;
  /** Maximum number of bytes to take from the source; `Infinity`: until its end. */
  length: number;
  /** Whether to end the destination when the flow is done. */
  end: boolean;
  throttle: Throttle | undefined;
  /** Which of the two directions that share a throttle this is. */
  direction: 0 | 1;
}

/** Callbacks of a flow. */
export interface FlowEvents {
  accepted(bytes: number): void;
  fail(failure: Failure): void;
  /** Everything was accepted and, if requested, the destination was ended. */
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

  /** Whether it waits for its limiter, which is not idleness. */
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
    attempt(fail, () => {
      this.writer.start(this.#wake, accepted, fail);
      // Either end may have failed and stopped the flow.
      if (!this.#stopped) this.reader.start(this.#wake, fail);
      if (this.#stopped) return;
      if (this.writer.isEnded) this.#finish();
      else this.#pump();
    });
  }

  /** Stops reading. Bytes that the writer holds may still be accepted. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#options.throttle?.leave(this.#options.direction);
    this.#options.throttle?.giveBack();
  }

  /** Releases both ends; resolves with the bytes that could not go back to the source. */
  async release(): Promise<Buffer> {
    const rest = await this.writer.release();
    // Bytes of the head did not come from the source, so they do not go back to it.
    const ofHead = Math.max(0, this.#options.head.length - this.#accepted);
    return this.reader.release(rest.subarray(Math.min(rest.length, ofHead)));
  }

  /** Called by both ends and by the timer, in callbacks of Node. */
  readonly #wake = (): void => {
    try {
      this.#pump();
    } catch (error) {
      this.#events?.fail(thrown(error));
    }
  };

  #pump(): void {
    const { reader, writer } = this;
    const { throttle, direction } = this.#options;
    // Invariant: every byte taken from the reader was written to the writer; the flow itself holds none.
    while (!this.#stopped && this.#timer === undefined) {
      // Checked before `isFull`: a flow without bytes left needs no room in the destination.
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
        const quantum = throttle.quantum(direction);
        if (quantum < 0) {
          this.#timer = setTimeout(this.#resume, -quantum);
          return;
        }
        allowed = Math.min(allowed, quantum);
      }
      const chunk = reader.take(allowed);
      if (chunk === undefined) break;
      throttle?.used(direction, chunk.length);
      this.#remaining -= chunk.length;
      writer.write(chunk);
    }
    // This direction may hold a quantum that it does not use now; the other direction must not wait for it.
    if (this.#timer === undefined) throttle?.leave(direction);
  }

  readonly #resume = (): void => {
    this.#timer = undefined;
    this.#wake();
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
