// The time limit behind `idleTimeout` and `halfCloseTimeout`. It uses one timer per limit and polls the time of the last
// event, because setting a timer anew at each event would cost more than the event.

import { clearImmediate, clearTimeout, now, setImmediate, setTimeout } from '../contract/clock.js';
import { type Failure, idle } from '../contract/errors.js';

/**
 * Limits a wait that begins now and in which nothing moves. Unless the limit is stopped before, `fail` is called with an
 * idle timeout. `undefined` without an `idleTimeout`.
 */
export function limitWait(
  idleTimeout: number | undefined,
  fail: (failure: Failure) => void,
): TimeLimit | undefined {
  if (idleTimeout === undefined) return undefined;
  const since = now();
  return new TimeLimit(
    idleTimeout,
    () => since,
    () => fail(idle()),
  );
}

/** Calls back once when the last event is longer ago than the limit. */
export class TimeLimit {
  readonly #limit: number;
  readonly #lastEvent: () => number;
  readonly #exceeded: () => void;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  /** The event that the first check found to be too long ago. */
  #overdue: number | undefined;

  /** `limit` is in milliseconds; `lastEvent` returns the time of the last event by `now()`. */
  constructor(limit: number, lastEvent: () => number, exceeded: () => void) {
    this.#limit = limit;
    this.#lastEvent = lastEvent;
    this.#exceeded = exceeded;
    this.#wait(limit, this.#check);
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }

  readonly #check = (): void => {
    const since = this.#lastEvent();
    const late = now() - since - this.#limit;
    if (late < 0) {
      this.#wait(Math.ceil(-late), this.#check);
    } else if (since === this.#overdue) {
      this.#exceeded();
    } else {
      // After the process was stopped or its thread was busy, Node runs timers before it learns of I/O that has happened
      // meanwhile. The second check therefore runs after a turn of the event loop. Threads that read files may have been
      // stopped as well, so the deadline is extended by the delay of this check, but only once per event: on a thread
      // that is always late, no limit would ever be exceeded otherwise.
      this.#overdue = since;
      this.#wait(Math.min(late, this.#limit), () => (this.#immediate = setImmediate(this.#check)));
    }
  };

  /** The timer does not keep the process alive; the transfer itself does. */
  #wait(ms: number, then: () => void): void {
    this.#timer = setTimeout(then, ms).unref();
  }
}
