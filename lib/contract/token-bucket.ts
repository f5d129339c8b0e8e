import { performance } from 'node:perf_hooks';

/** One transfer's place at a limiter: quanta of bytes, or, negative, milliseconds to wait. */
export interface Throttle {
  piece(who: number): number;
  /**
   * Reports how many bytes of the quantum were used; the rest of it is the next quantum. A stream often has less at a time
   * than a quantum, a file never: if it returned the rest and queued again each time, its share would be smaller.
   */
  used(who: number, bytes: number): void;
  /** Returns reserved tokens that were not used. */
  giveBack(): void;
  leave(who: number): void;
}

/** What one transfer asks for at a time, in seconds' worth: small and even pieces at any rate. */
const PIECE_SECONDS = 0.01;
const MOST_OF_A_PIECE = 1024 * 1024;
/** The default burst, in seconds' worth. */
const BURST_SECONDS = 0.02;
/** The longest wait in milliseconds before the bucket is looked at again: a new rate takes effect within this. */
const NAP = 50;

/**
 * A token bucket for where the core and its own are missing. A reservation is a place in the queue: the count of bytes
 * reserved so far, its own included. It is due when as many have come in, so a change of the rate moves all that wait.
 */
export class Bucket {
  bytesPerSecond: number;
  readonly #burst: number | undefined;
  /** At most `#reserved` + burst. */
  #earned = 0;
  #reserved = 0;
  #seen = performance.now();

  constructor(bytesPerSecond: number, burst?: number) {
    this.bytesPerSecond = bytesPerSecond;
    this.#burst = burst;
  }

  throttle(): Throttle {
    return new BucketThrottle(this);
  }

  /** What one transfer gets at a time, at the rate in force. */
  get piece(): number {
    const most = Math.min(MOST_OF_A_PIECE, this.#burst ?? Infinity);
    return Math.max(1, Math.floor(Math.min(this.bytesPerSecond * PIECE_SECONDS, most)));
  }

  reserve(bytes: number): number {
    this.#earn();
    this.#reserved += bytes;
    return this.#reserved;
  }

  /** Milliseconds until a place is due; 0 when it is. */
  wait(place: number): number {
    this.#earn();
    const missing = place - this.#earned;
    if (missing <= 0 || this.bytesPerSecond === Infinity) return 0;
    return Math.min(NAP, Math.max(1, (missing / this.bytesPerSecond) * 1000));
  }

  /** Bytes that were reserved and not used. */
  giveBack(bytes: number): void {
    this.#earned += bytes;
  }

  #earn(): void {
    const now = performance.now();
    const seconds = (now - this.#seen) / 1000;
    this.#seen = now;
    const rate = this.bytesPerSecond;
    if (rate === Infinity) {
      this.#earned = this.#reserved;
      return;
    }
    const burst = Math.max(1, this.#burst ?? rate * BURST_SECONDS);
    this.#earned = Math.min(this.#earned + seconds * rate, this.#reserved + burst);
  }
}

class BucketThrottle implements Throttle {
  readonly #bucket: Bucket;
  #ticket: { place: number; piece: number } | undefined;
  /** Who used the last piece, and who has asked since. */
  #last = 1;
  readonly #asked = [false, false];

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  piece(who: number): number {
    this.#asked[who] = true;
    const { piece } = this.#bucket;
    this.#ticket ??= { place: this.#bucket.reserve(piece), piece };
    const ticket = this.#ticket;
    // Reserved at a far higher rate, it would be a lump at this one, and keep all that wait behind it waiting.
    if (ticket.piece > 2 * piece) {
      this.#bucket.giveBack(ticket.piece - piece);
      ticket.piece = piece;
    }
    const wait = this.#bucket.wait(ticket.place);
    if (wait > 0) return -wait;
    // The other direction's turn.
    if (this.#last === who && this.#asked[1 - who] === true) return -1;
    return ticket.piece;
  }

  used(who: number, bytes: number): void {
    this.leave(who);
    if (this.#ticket === undefined) return;
    this.#ticket.piece -= bytes;
    if (this.#ticket.piece < 1) this.#ticket = undefined;
  }

  giveBack(): void {
    if (this.#ticket !== undefined) this.#bucket.giveBack(this.#ticket.piece);
    this.#ticket = undefined;
  }

  leave(who: number): void {
    this.#asked[who] = false;
    this.#last = who;
  }
}
