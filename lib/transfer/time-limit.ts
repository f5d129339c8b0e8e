import { performance } from 'node:perf_hooks';

/** Calls back once when it is too long ago that something happened. One timer a limit, not one each time it happens. */
export class TimeLimit {
  readonly #limit: number;
  readonly #since: () => number;
  readonly #exceeded: () => void;
  #timer: NodeJS.Timeout | undefined;
  #turn: NodeJS.Immediate | undefined;
  /** What `since` told at the first look that found it too long ago. */
  #doubted: number | undefined;

  /** `since` tells when it happened last, by `performance.now()`. */
  constructor(limit: number, since: () => number, exceeded: () => void) {
    this.#limit = limit;
    this.#since = since;
    this.#exceeded = exceeded;
    this.#wait(limit, this.#look);
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#turn);
  }

  readonly #look = (): void => {
    const since = this.#since();
    const late = performance.now() - since - this.#limit;
    if (late < 0) {
      this.#wait(Math.ceil(-late), this.#look);
    } else if (since === this.#doubted) {
      this.#exceeded();
    } else {
      // In a process that was stopped, or a thread that was busy, Node runs the timers before it learns what has come
      // meanwhile, so the second look is behind a turn of its loop. Whoever works for it, as the threads that read files,
      // may have been stopped too, and gets the time by which this look is late. Only once each time: a thread that is
      // always late would find nothing too long ago.
      this.#doubted = since;
      this.#wait(Math.min(late, this.#limit), () => (this.#turn = setImmediate(this.#look)));
    }
  };

  /** What is waited for keeps the process alive; the limit does not. */
  #wait(ms: number, then: () => void): void {
    this.#timer = setTimeout(then, ms).unref();
  }
}
