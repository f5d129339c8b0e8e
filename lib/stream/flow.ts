// One direction of a transfer on the stream engine, and the interfaces of its two ends.
import { clearTimeout, setTimeout } from '../contract/clock.js';
import { endedByOwner, type Failure, thrown } from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';
import { afterTurns } from './reset.js';
import type { Throttle } from '../contract/token-bucket.js';
import { attempt } from '../transfer/attempt.js';

/** Most bytes that a source may have received and not shown yet: more than the receive buffer of a socket. */
const MAX_ARRIVED = 8 * 1024 * 1024;

/** The source of a flow. */
export interface Reader {
  /** Whether the source has ended and every byte of it was taken. */
  readonly isAtEnd: boolean;
  /** Whether `take` may return bytes or an end; `wake` is called when this becomes true. */
  readonly isReady: boolean;
  /** `false` while a file is being opened by its path; `wake` is called when it is open. Nothing is written before. */
  readonly isOpen?: boolean;
  /** Whether the source is a plain TCP connection. Node may report its reset as an end. */
  readonly isTcp?: boolean;
  /** Whether the source keeps resources until its end was read. */
  readonly awaitsEnd?: boolean;
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

/** The length that a destination has announced for what a flow writes to it, as a Content-Length does. */
export interface Announced {
  /** How many bytes the flow may write; `Infinity` without an announced length. */
  length(): number;
  /** Whether the destination takes no bytes. Those of the source are dropped. */
  readonly isBodiless: boolean;
  /** Fixes the length; called before the first write. */
  fix(): void;
  /** The failure of a flow that ends with fewer bytes; `undefined` if others may write the rest. */
  readonly shortage: Failure | undefined;
}

export interface FlowOptions {
  /** Bytes to write before anything from the source. */
  head: Buffer;
  /** Maximum number of bytes to take from the source; `Infinity`: until its end. */
  length: number;
  /** Whether to end the destination when the flow is done. */
  end: boolean;
  throttle: Throttle | undefined;
  /** Absent: the flow writes as much as its source has. */
  announced?: Announced | undefined;
  /** Which of the two directions that share a throttle this is. */
  direction: 0 | 1;
  /** The side of the destination, in failures. Default: `destination`. */
  side?: Side;
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
  #written = 0;
  /** Bytes that were taken before the announced length was fixed, and exceed it. They go back to the source. */
  #excess: Buffer | undefined;
  #stopped = false;
  #isDone = false;
  #timer: NodeJS.Timeout | undefined;
  /** Bytes that may still be taken before the destination is ended early; absent: it is ended after the source. */
  #arrived: number | undefined;
  #early: 'ending' | 'ended' | undefined;
  #isPolled = false;
  #events: FlowEvents | undefined;

  /** The side of the destination. */
  get side(): Side {
    return this.#options.side ?? 'destination';
  }

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

  /** Whether the source has ended and the destination has accepted every byte of it. */
  get isDelivered(): boolean {
    return this.#head.length === 0 && this.reader.isAtEnd && this.writer.pending === 0;
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

  /**
   * Ends the destination before the source has ended: after the bytes that have arrived for it. Bytes that come later
   * fail the transfer.
   */
  endEarly(): void {
    if (this.#stopped || this.#arrived !== undefined) return;
    this.#arrived = MAX_ARRIVED;
    this.#wake();
  }

  /** Ends the flow although its destination can no longer be ended. Everything must be delivered. */
  forgoEnd(): void {
    this.stop();
    if (this.#isDone) return;
    this.#isDone = true;
    this.#events?.done();
  }

  /** Releases both ends; resolves with the bytes that could not go back to the source. */
  async release(): Promise<Buffer> {
    let unread: Buffer = Buffer.alloc(0);
    let released: Promise<Buffer>;
    try {
      const rest = await this.writer.release();
      // Bytes of the head did not come from the source, so they do not go back to it.
      const ofHead = Math.max(0, this.#options.head.length - this.#accepted);
      unread = rest.subarray(Math.min(rest.length, ofHead));
    } finally {
      if (this.#excess !== undefined) unread = Buffer.concat([unread, this.#excess]);
      released = this.reader.release(unread);
    }
    return released;
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
    // Invariant: every byte taken from the reader was written to the writer, unless the announced length is reached.
    while (!this.#stopped && this.#timer === undefined) {
      if (reader.isOpen === false) break;
      // Checked before `isFull`: a flow without bytes left needs no room in the destination.
      const left = this.#left();
      if (left === 0) {
        if (this.#isSourceSpent()) this.#finish();
        break;
      }
      if (this.#head.length === 0 && (this.#remaining === 0 || reader.isAtEnd)) {
        this.#finish();
        break;
      }
      if (this.#early === 'ended' && reader.isReady && reader.take(1) !== undefined) this.#failEndedEarly();
      if (this.#early !== undefined) break;
      if (this.#arrived === 0 && this.#head.length === 0) {
        this.#finishEarly();
        break;
      }
      if (writer.isFull) break;
      if (this.#head.length > 0) {
        const head = this.#head;
        this.#head = Buffer.alloc(0);
        this.#write(head);
        continue;
      }
      if (!reader.isReady) {
        this.#pollArrived();
        break;
      }
      let allowed = Math.min(this.#remaining, left);
      if (throttle !== undefined) {
        const quantum = throttle.quantum(direction);
        if (quantum < 0) {
          this.#timer = setTimeout(this.#resume, -quantum);
          return;
        }
        allowed = Math.min(allowed, quantum);
      }
      const chunk = reader.take(allowed);
      if (chunk === undefined) {
        this.#pollArrived();
        break;
      }
      if (this.#arrived !== undefined) this.#arrived = Math.max(0, this.#arrived - chunk.length);
      throttle?.used(direction, chunk.length);
      this.#remaining -= chunk.length;
      this.#excess = this.#write(chunk);
    }
    // This direction may hold a quantum that it does not use now; the other direction must not wait for it.
    if (this.#timer === undefined) throttle?.leave(direction);
  }

  /** Whether nothing more is to be taken from the source: it has ended, or it has more than was announced. */
  #isSourceSpent(): boolean {
    const { reader } = this;
    if (reader.awaitsEnd !== true || this.#remaining === 0 || reader.isAtEnd) return true;
    if (reader.isReady) this.#excess ??= reader.take(1);
    return this.#excess !== undefined;
  }

  /** Bytes that may still be written. */
  #left(): number {
    const { announced } = this.#options;
    return announced === undefined ? Infinity : Math.max(0, announced.length() - this.#written);
  }

  /** Writes a chunk up to the announced length; returns the rest, if there is one. */
  #write(chunk: Buffer): Buffer | undefined {
    const { announced } = this.#options;
    if (announced?.isBodiless === true) return undefined;
    if (announced === undefined) {
      this.writer.write(chunk);
      return undefined;
    }
    if (this.#written === 0) announced.fix();
    const bytes = Math.min(chunk.length, this.#left());
    this.#written += bytes;
    if (bytes > 0) this.writer.write(bytes === chunk.length ? chunk : chunk.subarray(0, bytes));
    return bytes === chunk.length ? undefined : chunk.subarray(bytes);
  }

  readonly #resume = (): void => {
    this.#timer = undefined;
    this.#wake();
  };

  /** A stream shows what its socket has received only after a turn of the event loop in which Node has read it. */
  #pollArrived(): void {
    if (this.#arrived === undefined || this.#isPolled) return;
    this.#isPolled = true;
    const before = this.#arrived;
    afterTurns(2, () => {
      this.#isPolled = false;
      if (this.#arrived === undefined) return;
      if (this.#arrived === before) this.#arrived = 0;
      this.#wake();
    });
  }

  #finishEarly(): void {
    this.#early = 'ending';
    this.writer.finish(true, () => {
      this.#early = 'ended';
      this.#wake();
    });
  }

  #failEndedEarly(): void {
    this.#stopped = true;
    this.#events?.fail(endedByOwner(this.side));
  }

  #finish(): void {
    this.stop();
    const left = this.#left();
    const shortage = left > 0 && left < Infinity ? this.#options.announced?.shortage : undefined;
    if (shortage !== undefined) {
      this.#events?.fail(shortage);
      return;
    }
    this.writer.finish(this.#options.end, () => {
      if (this.#isDone) return;
      this.#isDone = true;
      this.#events?.done();
    });
  }
}
