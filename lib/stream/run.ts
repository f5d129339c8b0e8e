import { performance } from 'node:perf_hooks';
import { type Failure, idle } from '../contract/errors.js';
import { keepProcessAlive, letProcessEnd } from '../core/keep-alive.js';
import { binding } from '../core/core.js';
import { streamCounts } from '../core/stats.js';
import { TimeLimit } from '../transfer/time-limit.js';
import type { Ended, Running } from '../transfer/transfer.js';
import type { Side } from '../contract/types.js';
import { type Flow, LAST_WORDS } from './flow.js';

export interface RunOptions {
  idleTimeout?: number | undefined;
  halfCloseTimeout?: number | undefined;
}

function newEntry(): ReturnType<typeof streamCounts.begin> {
  const core = binding();
  return core === undefined ? streamCounts.begin() : new core.NativeStreamEntry();
}

/** One flow or two, from the start until all have ended or something has failed. */
export class StreamRun implements Running {
  readonly #flows: readonly Flow[];
  /** Whose end of input ends the flow of the same index. */
  readonly #sides: readonly Side[];
  readonly #options: RunOptions;
  readonly #settled: (ended: Ended) => void;
  readonly #counts = { tx: 0, rx: 0 };
  readonly #entry = newEntry();
  #movedAt = performance.now();
  #idle: TimeLimit | undefined;
  #halfClose: TimeLimit | undefined;
  #lastWords: NodeJS.Timeout | undefined;
  #failure: Failure | undefined;
  #over = false;

  constructor(
    flows: readonly Flow[],
    sides: readonly Side[],
    options: RunOptions,
    settled: (ended: Ended) => void,
  ) {
    this.#flows = flows;
    this.#sides = sides;
    this.#options = options;
    this.#settled = settled;
    keepProcessAlive();
    this.#watchIdleness();
    for (const [index, flow] of flows.entries()) {
      flow.start({
        accepted: (bytes) => this.#accepted(index === 0 ? 'tx' : 'rx', bytes),
        fail: (failure) => this.#fail(failure, failure.code !== 'ABORT_ERR'),
        done: () => this.#done(index),
      });
    }
  }

  traffic(): { tx: number; rx: number } {
    return { ...this.#counts };
  }

  abort(): void {
    this.#fail({ what: 'aborted', code: 'ABORT_ERR' }, false);
  }

  #accepted(direction: 'tx' | 'rx', bytes: number): void {
    this.#counts[direction] += bytes;
    this.#movedAt = performance.now();
    this.#entry.moved(direction === 'tx' ? bytes : 0, direction === 'rx' ? bytes : 0);
    if (this.#failure !== undefined) this.#settleOnceHeard();
  }

  #done(index: number): void {
    const other = this.#flows[1 - index];
    if (this.#failure !== undefined) return;
    if (other === undefined || other.isDone) {
      this.#settle();
      return;
    }
    const { halfCloseTimeout } = this.#options;
    if (halfCloseTimeout === undefined) return;
    const side = this.#sides[1 - index];
    const what = 'the other direction has ended and this one did not in time';
    const endedAt = performance.now();
    this.#halfClose = new TimeLimit(
      halfCloseTimeout,
      () => endedAt,
      () => this.#fail({ what, code: 'ERR_HALF_CLOSE_TIMEOUT', side }, false),
    );
  }

  #watchIdleness(): void {
    const { idleTimeout } = this.#options;
    if (idleTimeout === undefined) return;
    const quietSince = () => {
      if (this.#flows.some((flow) => flow.isLimited)) this.#movedAt = performance.now();
      return this.#movedAt;
    };
    this.#idle = new TimeLimit(idleTimeout, quietSince, () => this.#fail(idle(), false));
  }

  /** With `hear`, what was read before still gets a moment to be accepted. */
  #fail(failure: Failure, hear: boolean): void {
    if (this.#over) return;
    if (this.#failure !== undefined) {
      // The side that failed also closes. Otherwise nobody is left to hear it out, or to wait for that.
      if (failure.side === undefined || failure.side !== this.#failure.side) this.#settle();
      return;
    }
    this.#failure = failure;
    for (const flow of this.#flows) flow.stop();
    if (!hear) {
      this.#settle();
      return;
    }
    this.#lastWords = setTimeout(() => this.#settle(), LAST_WORDS);
    this.#settleOnceHeard();
  }

  #settleOnceHeard(): void {
    const failed = this.#sides.findIndex((side) => side === this.#failure?.side);
    // Of a copy nothing is torn down: what the destination has taken, it keeps.
    const writer = this.#flows.length > 1 ? this.#flows[failed]?.writer : undefined;
    if (writer === undefined) this.#settle();
    if (writer === undefined || writer.pending > 0) return;
    clearTimeout(this.#lastWords);
    const wait = (writer.queuedUntil ?? 0) - performance.now();
    if (wait > 0) this.#lastWords = setTimeout(() => this.#settle(), Math.ceil(wait));
    else this.#settle();
  }

  #settle(): void {
    if (this.#over) return;
    this.#over = true;
    for (const limit of [this.#idle, this.#halfClose]) limit?.stop();
    clearTimeout(this.#lastWords);
    for (const flow of this.#flows) flow.stop();
    this.#entry.end(this.#failure !== undefined);
    letProcessEnd();
    const [first, second] = this.#flows;
    this.#settled({
      ...this.#counts,
      zeroCopy: 0,
      aEnded: first?.reader.isAtEnd ?? false,
      bEnded: second?.reader.isAtEnd ?? false,
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
    });
  }
}
