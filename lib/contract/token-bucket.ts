// The rate limit for platforms without the core: a token bucket, and the use that one transfer makes of it.
// crates/fdsplice/src/limits/ has the same in Rust, with the same names.

import { now } from './clock.js';

/** The quantum of a transfer, as seconds at the rate in force: small and even at any rate. */
const QUANTUM_SECONDS = 0.01;
/** The largest quantum in bytes. */
const LARGEST_QUANTUM = 1024 * 1024;
/** The default burst, as seconds at the rate in force. */
const BURST_SECONDS = 0.02;
/** The longest wait in milliseconds before the bucket is checked again. A new rate takes effect within this time. */
const RECHECK = 50;

/** The use that one transfer makes of a rate limit. Its directions, 0 and 1, take turns. */
export interface Throttle {
  /**
   * How many bytes `direction` may move now. A negative number is the time in milliseconds to wait before the next
   * request.
   */
  quantum(direction: number): number;
  /**
   * Reports how many bytes of the quantum were used; the rest of it is the next quantum. A stream often has less than a
   * quantum at a time, a file never. A stream that gave the rest back and queued again each time would get less than
   * its share.
   */
  used(direction: number, bytes: number): void;
  /** Gives the reserved and unused bytes back to the limit. */
  giveBack(): void;
  /** `direction` makes no more requests. */
  leave(direction: number): void;
}

/**
 * A token bucket. A reservation is a position in the queue: the count of all bytes reserved so far, its own included.
 * It is due when that many bytes have been earned, so a change of the rate moves every waiting reservation.
 */
export class TokenBucket {
  bytesPerSecond: number;
  readonly #burst: number | undefined;
  /** At most `#reserved` + burst. */
  #earned = 0;
  #reserved = 0;
  #updated = now();

  constructor(bytesPerSecond: number, burst?: number) {
    this.bytesPerSecond = bytesPerSecond;
    this.#burst = burst;
  }

  throttle(): Throttle {
    return new BucketThrottle(this);
  }

  /** The bytes that one reservation stands for, at the rate in force. */
  get quantum(): number {
    const most = Math.min(LARGEST_QUANTUM, this.#burst ?? Infinity);
    return Math.max(1, Math.floor(Math.min(this.bytesPerSecond * QUANTUM_SECONDS, most)));
  }

  /** Reserves bytes at the end of the queue, and returns their position. */
  reserve(bytes: number): number {
    this.#earn();
    this.#reserved += bytes;
    return this.#reserved;
  }

  /** Milliseconds until a position is due; 0 when it is due. */
  wait(position: number): number {
    this.#earn();
    const missing = position - this.#earned;
    if (missing <= 0 || this.bytesPerSecond === Infinity) return 0;
    return Math.min(RECHECK, Math.max(1, (missing / this.bytesPerSecond) * 1000));
  }

  /** Returns bytes that were reserved and not used. */
  giveBack(bytes: number): void {
    this.#earned += bytes;
  }

  #earn(): void {
    const time = now();
    const seconds = (time - this.#updated) / 1000;
    this.#updated = time;
    const rate = this.bytesPerSecond;
    if (rate === Infinity) {
      this.#earned = this.#reserved;
      return;
    }
    const burst = Math.max(1, this.#burst ?? rate * BURST_SECONDS);
    this.#earned = Math.min(this.#earned + seconds * rate, this.#reserved + burst);
  }
}

interface Reservation {
  position: number;
  quantum: number;
}

class BucketThrottle implements Throttle {
  readonly #bucket: TokenBucket;
  #reservation: Reservation | undefined;
  /** The direction that used the last quantum. */
  #last = 1;
  /** The directions that have requested a quantum since they used one. */
  readonly #requested = [false, false];

  constructor(bucket: TokenBucket) {
    this.#bucket = bucket;
  }

  quantum(direction: number): number {
    this.#requested[direction] = true;
    const { quantum } = this.#bucket;
    this.#reservation ??= { position: this.#bucket.reserve(quantum), quantum };
    const reservation = this.#reservation;
    // It was reserved at a far higher rate. Such a large read would delay every transfer queued behind it.
    if (reservation.quantum > 2 * quantum) {
      this.#bucket.giveBack(reservation.quantum - quantum);
      reservation.quantum = quantum;
    }
    const wait = this.#bucket.wait(reservation.position);
    if (wait > 0) return -wait;
    // It is the turn of the other direction.
    if (this.#last === direction && this.#requested[1 - direction] === true) return -1;
    return reservation.quantum;
  }

  used(direction: number, bytes: number): void {
    this.leave(direction);
    if (this.#reservation === undefined) return;
    this.#reservation.quantum -= bytes;
    if (this.#reservation.quantum < 1) this.#reservation = undefined;
  }

  giveBack(): void {
    if (this.#reservation !== undefined) this.#bucket.giveBack(this.#reservation.quantum);
    this.#reservation = undefined;
  }

  leave(direction: number): void {
    this.#requested[direction] = false;
    this.#last = direction;
  }
}
