import { checked } from './known-keys.js';
import { invalidType, outOfRange } from './errors.js';
import { binding, type NativeRateLimiter } from '../core/core.js';
import { Bucket } from './token-bucket.js';

/** What stands behind a limit: the core's, or where there is no core, ours. */
export type Limit = NativeRateLimiter | Bucket;

/** Not for users of the package. */
let limitIn: (limiter: RateLimiter) => Limit;

function newLimit(bytesPerSecond: number, burst?: number): Limit {
  const core = binding();
  return core === undefined
    ? new Bucket(bytesPerSecond, burst)
    : new core.NativeRateLimiter(bytesPerSecond, burst);
}

/** A limit as the core is given it; where a core runs, every limit is its own. */
export function inCore(limit: Limit | undefined): NativeRateLimiter | undefined {
  return limit;
}

/**
 * A limit on bytes per second for all the transfers it is given to. Each busy transfer gets the same share; one that
 * has nothing to send leaves its share to the others. Belongs to one thread.
 */
export class RateLimiter {
  readonly #limit: Limit;

  static {
    limitIn = (limiter) => limiter.#limit;
  }

  /**
   * @param bytesPerSecond above 0; `Infinity` is no limit
   * @param options `burst`: bytes that may go at once after a pause; default 20 ms' worth
   */
  constructor(bytesPerSecond: number, options: { burst?: number | undefined } = {}) {
    requireRate('bytesPerSecond', bytesPerSecond);
    const { burst } = checked(options, ['burst']);
    if (burst !== undefined) requireRate('options.burst', burst);
    this.#limit = newLimit(bytesPerSecond, burst);
  }

  /** The limit in force. A change takes effect within 100 ms, also on transfers that run. */
  get bytesPerSecond(): number {
    return this.#limit.bytesPerSecond;
  }

  set bytesPerSecond(value: number) {
    requireRate('bytesPerSecond', value);
    this.#limit.bytesPerSecond = value;
  }
}

/** What stands behind an option that is a number or a limiter. */
export function limitOf(name: string, limit: number | RateLimiter | undefined): Limit | undefined {
  if (limit === undefined) return undefined;
  if (limit instanceof RateLimiter) return limitIn(limit);
  requireRate(name, limit, 'a number or a RateLimiter');
  return limit === Infinity ? undefined : newLimit(limit);
}

function requireRate(name: string, value: unknown, expected = 'a number'): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, expected, value);
  if (!(value > 0)) throw outOfRange(name, 'above 0', value);
}
