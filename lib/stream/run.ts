// Runs the flows of one transfer on the stream engine: counts, time limits, and the end of both on a failure.
import { clearTimeout, now, setImmediate, setTimeout } from '../contract/clock.js';
import { aborted, type Failure, halfCloseTimeout, idle } from '../contract/errors.js';
import { FAILURE_GRACE_MS } from '../contract/failure-grace.js';
import type { Side } from '../contract/traffic.js';
import { binding } from '../core/core.js';
import { keepProcessAlive, letProcessEnd } from '../core/keep-alive.js';
import { streamCounts } from '../core/stats.js';
import { TimeLimit } from '../transfer/time-limit.js';
import type { EngineTransfer, Settled } from '../transfer/transfer.js';
import { hasLeft, losesOnlyEnd } from './departure.js';
import type { Flow } from './flow.js';

export interface RunOptions {
  idleTimeout?: number | undefined;
  halfCloseTimeout?: number | undefined;
}

function newEntry(): ReturnType<typeof streamCounts.begin> {
  const core = binding();
  return core === undefined ? streamCounts.begin() : new core.NativeStreamEntry();
}

/** One flow or two, from the start until all have ended or something has failed. */
export class StreamRun implements EngineTransfer {
  readonly #flows: readonly Flow[];
  /** The side that the flow with the same index reads from. */
  readonly #sides: readonly Side[];
  readonly #options: RunOptions;
  readonly #settled: Settled;
  readonly #firstFailure: (failure: Failure) => Failure;
  readonly #counts = { tx: 0, rx: 0 };
  readonly #entry = newEntry();
  #movedAt = now();
  #idle: TimeLimit | undefined;
  #halfClose: TimeLimit | undefined;
  #grace: NodeJS.Timeout | undefined;
  #failure: Failure | undefined;
  /** A side that is lost after it had ended and had accepted everything. It can no longer fail. */
  #goneSide: Side | undefined;
  #over = false;

  /** `firstFailure` returns the failure of an end that had failed before the given one was noticed. */
  constructor(
    flows: readonly Flow[],
    sides: readonly Side[],
    options: RunOptions,
    settled: Settled,
    firstFailure = (failure: Failure) => failure,
  ) {
    this.#firstFailure = firstFailure;
    this.#flows = flows;
    this.#sides = sides;
    this.#options = options;
    this.#settled = settled;
    keepProcessAlive();
    this.#watchIdleness();
    for (const [index, flow] of flows.entries()) {
      // The other flow may have failed as it started.
      if (this.#over) break;
      flow.start({
        accepted: (bytes) => this.#accepted(index === 0 ? 'tx' : 'rx', bytes),
        fail: (failure) => this.#failed(failure),
        done: () => this.#done(index),
      });
    }
  }

  /** Whether it has failed and is only waiting for bytes that may still be accepted. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  traffic(): { tx: number; rx: number } {
    return { ...this.#counts };
  }

  abort(): void {
    this.#fail(aborted(), false);
  }

  #accepted(direction: 'tx' | 'rx', bytes: number): void {
    this.#counts[direction] += bytes;
    this.#movedAt = now();
    this.#entry.moved(direction === 'tx' ? bytes : 0, direction === 'rx' ? bytes : 0);
    if (this.#failure !== undefined) this.#settleWhenAccepted();
  }

  #done(index: number): void {
    const other = this.#flows[1 - index];
    if (this.#failure !== undefined) return;
    if (other === undefined || other.isDone) {
      this.#settle();
      return;
    }
    const { halfCloseTimeout: limit } = this.#options;
    if (limit === undefined) return;
    const side = this.#sides[1 - index];
    const endedAt = now();
    this.#halfClose = new TimeLimit(
      limit,
      () => endedAt,
      () => this.#fail(halfCloseTimeout(side), false),
    );
  }

  #watchIdleness(): void {
    const { idleTimeout } = this.#options;
    if (idleTimeout === undefined) return;
    const lastMoved = () => {
      if (this.#flows.some((flow) => flow.isLimited)) this.#movedAt = now();
      return this.#movedAt;
    };
    this.#idle = new TimeLimit(idleTimeout, lastMoved, () => this.#fail(idle(), false));
  }

  /** A failure that an end has noticed. */
  #failed(noticed: Failure): void {
    const failure = this.#failure === undefined ? this.#firstFailure(noticed) : noticed;
    this.#fail(failure, failure.code !== 'ABORT_ERR');
  }

  /** With `grace`, bytes read before the failure may still be accepted for a limited time. */
  #fail(failure: Failure, grace: boolean): void {
    if (this.#over || this.#isHarmless(failure)) return;
    if (this.#failure !== undefined) {
      // The failed side also closes, which changes nothing. A failure of the other side leaves no one to deliver to.
      if (failure.side === undefined || failure.side !== this.#failure.side) this.#settle();
      return;
    }
    this.#failure = failure;
    for (const flow of this.#flows) flow.stop();
    if (!grace) {
      this.#settle();
      return;
    }
    this.#grace = setTimeout(() => this.#settle(), FAILURE_GRACE_MS);
    this.#settleWhenAccepted();
  }

  /** Whether all that the failure prevents is the end of a flow, and that does not matter. */
  #isHarmless(failure: Failure): boolean {
    if (this.#failure !== undefined) return false;
    if (failure.side !== undefined && failure.side === this.#goneSide) return true;
    const index = this.#indexOf(failure);
    const [from, to] = [this.#flows[index], this.#flows[1 - index]];
    if (from === undefined || to === undefined || !losesOnlyEnd(failure, from, to)) return false;
    this.#goneSide = failure.side;
    to.forgoEnd();
    return true;
  }

  /** The index of the flow that reads from the failed side; -1 for a failure of neither. */
  #indexOf(failure: Failure | undefined): number {
    return this.#sides.findIndex((side) => side === failure?.side);
  }

  #settleWhenAccepted(): void {
    const failed = this.#indexOf(this.#failure);
    // A copy resets nothing, so its destination keeps the bytes it has accepted without a wait.
    const writer = this.#flows.length > 1 ? this.#flows[failed]?.writer : undefined;
    if (writer === undefined) this.#settle();
    if (writer === undefined || writer.pending > 0) return;
    clearTimeout(this.#grace);
    const wait = (writer.queuedUntil ?? 0) - now();
    if (wait > 0) this.#grace = setTimeout(() => this.#settle(), Math.ceil(wait));
    else this.#settle();
  }

  #settle(): void {
    if (this.#over) return;
    this.#over = true;
    for (const limit of [this.#idle, this.#halfClose]) limit?.stop();
    clearTimeout(this.#grace);
    for (const flow of this.#flows) flow.stop();
    // Node confirms writes that have succeeded by now in this turn of the event loop, and they count.
    if (this.#flows.some(({ writer }) => writer.pending > 0)) setImmediate(() => this.#report());
    else this.#report();
  }

  #report(): void {
    this.#entry.end(this.#failure !== undefined);
    letProcessEnd();
    const [first, second] = this.#flows;
    const failed = second === undefined ? undefined : this.#flows[this.#indexOf(this.#failure)];
    if (this.#failure !== undefined && failed !== undefined)
      this.#failure.afterEnd = hasLeft(this.#failure, failed);
    const outcome = {
      ...this.#counts,
      zeroCopy: 0,
      aEnded: first?.reader.isAtEnd ?? false,
      bEnded: second?.reader.isAtEnd ?? false,
    };
    this.#settled(outcome, this.#failure);
  }
}
