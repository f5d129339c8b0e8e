import { invalidType, outOfRange } from './errors.js';
import { type NativeRateLimiter, required } from './native.js';

/** The core's limiter behind one of ours; not for users of the package. */
let nativeOf: (limiter: RateLimiter) => NativeRateLimiter;

/**
 * A limit on bytes per second for all the transfers it is given to. Each busy transfer gets the same share; one that
 * has nothing to send leaves its share to the others. Belongs to one thread.
 */
export class RateLimiter {
  readonly #native: NativeRateLimiter;

  static {
    nativeOf = (limiter) => limiter.#native;
  }

  /**
   * @param bytesPerSecond above 0; `Infinity` is no limit
   * @param options `burst`: bytes that may go at once after a pause; default 20 ms' worth
   */
  constructor(bytesPerSecond: number, options: { burst?: number | undefined } = {}) {
    requireRate('bytesPerSecond', bytesPerSecond);
    if (typeof options !== 'object' || options === null) throw invalidType('options', 'an object', options);
    const { burst } = options;
    if (burst !== undefined) requireRate('options.burst', burst);
    this.#native = new (required().NativeRateLimiter)(bytesPerSecond, burst);
  }

  /** The limit in force. A change takes effect within 100 ms, also on transfers that run. */
  get bytesPerSecond(): number {
    return this.#native.bytesPerSecond;
  }

  set bytesPerSecond(value: number) {
    requireRate('bytesPerSecond', value);
    this.#native.bytesPerSecond = value;
  }
}

/** The core's limiter for an option that is a number or a limiter. */
export function limiterOf(
  name: string,
  limit: number | RateLimiter | undefined,
): NativeRateLimiter | undefined {
  if (limit === undefined) return undefined;
  if (limit instanceof RateLimiter) return nativeOf(limit);
  requireRate(name, limit, 'a number or a RateLimiter');
  return limit === Infinity ? undefined : new (required().NativeRateLimiter)(limit);
}

function requireRate(name: string, value: unknown, expected = 'a number'): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, expected, value);
  if (!(value > 0)) throw outOfRange(name, 'above 0', value);
}
