// The public `RateLimiter`, and the limits that the rate options of a transfer stand for.

import type { NativeRateLimiter } from '../binding.js';
import { invalidType, outOfRange } from './errors.js';
import { rejectUnknown } from './known-keys.js';
import { type Throttle, TokenBucket } from './token-bucket.js';

/** A limit on bytes per second: a token bucket of the core, or one of this package where there is no core. */
export interface Limit {
  bytesPerSecond: number;
  /** The use that one transfer makes of the limit. */
  throttle(): Throttle;
}

type LimitFactory = (bytesPerSecond: number, burst?: number) => Limit;

let newLimit: LimitFactory = (bytesPerSecond, burst) => new TokenBucket(bytesPerSecond, burst);

/** Replaces the token bucket of this package as the implementation of every limit made from now on. */
export function createLimitsWith(factory: LimitFactory): void {
  newLimit = factory;
}

/** The limit of a limiter; not public. */
let limitIn: (limiter: RateLimiter) => Limit;

/** A limit in the form in which the core takes it. Where the core runs, it has made every limit itself. */
export function inCore(limit: Limit | undefined): NativeRateLimiter | undefined {
  return limit;
}

/**
 * A limit on bytes per second that several transfers share. Each busy transfer gets the same share, and an idle one
 * leaves its share to the others. A limiter belongs to one thread.
 */
export class RateLimiter {
  readonly #limit: Limit;

  static {
    limitIn = (limiter) => limiter.#limit;
  }

  /**
   * @param bytesPerSecond above 0; `Infinity` means no limit
   * @param options `burst`: bytes that may move at once after a pause; default: 20 ms at the rate in force
   */
  constructor(bytesPerSecond: number, options: { burst?: number | undefined } = {}) {
    requireRate('bytesPerSecond', bytesPerSecond);
    const { burst } = rejectUnknown(options, ['burst']);
    if (burst !== undefined) requireRate('options.burst', burst);
    this.#limit = newLimit(bytesPerSecond, burst);
  }

  /** The limit in force. Running transfers follow a change within 100 ms. */
  get bytesPerSecond(): number {
    return this.#limit.bytesPerSecond;
  }

  set bytesPerSecond(value: number) {
    requireRate('bytesPerSecond', value);
    this.#limit.bytesPerSecond = value;
  }
}

/** Whether a value is a limiter, also one of another copy of the package, whose class is unknown here. */
export function isLimiter(value: unknown): value is RateLimiter {
  return typeof value === 'object' && value !== null && 'bytesPerSecond' in value;
}

/** The limit that an option stands for, which is a number or a limiter. */
export function limitOf(name: string, limit: number | RateLimiter | undefined): Limit | undefined {
  if (limit === undefined) return undefined;
  if (limit instanceof RateLimiter) return limitIn(limit);
  if (isLimiter(limit)) throw invalidType(name, 'a RateLimiter of the same copy of fdsplice', limit);
  requireRate(name, limit, 'a number or a RateLimiter');
  return limit === Infinity ? undefined : newLimit(limit);
}

function requireRate(name: string, value: unknown, expected = 'a number'): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, expected, value);
  if (!(value > 0)) throw outOfRange(name, 'above 0', value);
}
