import { AsyncResource } from 'node:async_hooks';
import { performance } from 'node:perf_hooks';
import { type Trace, traceStart, type TransferKind } from './diagnostics.js';
import { aborted, type Failure, systemFailure, TransferError } from './errors.js';
import type { Outcome } from './native.js';
import type { Settings } from './options.js';
import { onAbort } from './signals.js';
import type { Side, Traffic, TrafficResult, Transfer } from './types.js';

/** What stands behind the promise. */
interface Work {
  readonly traffic: Traffic;
  abort(reason: unknown): void;
}

/** A transfer that moves bytes. */
export interface Running {
  traffic(): { tx: number; rx: number };
  abort(): void;
}

/** How it ended: what the core reported, or the same of streams. */
export interface Ended extends Omit<Outcome, 'id'> {
  failure?: Failure;
}

function nothing(): void {}

const IDLE: Work = { traffic: { tx: 0, rx: 0, total: 0 }, abort: nothing };

class TransferPromise extends Promise<TrafficResult> implements Transfer {
  // `then` gives plain promises: only the first one has a transfer behind it.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  work = IDLE;

  get traffic(): Traffic {
    return this.work.traffic;
  }

  abort(reason: unknown = new DOMException('This operation was aborted', 'AbortError')): void {
    this.work.abort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort();
    await this.catch(() => {});
  }
}

/** A transfer that a caller's mistake kept from starting: it rejects, whatever `reject` says. */
export function refused(mistake: Error): Transfer {
  return new TransferPromise((_resolve, reject) => reject(mistake));
}

/** How a transfer ended, told to whoever lets go of its ends. */
export interface Ending {
  /** Absent after a clean end. */
  failure: Failure | undefined;
  /** What was reported; absent when it was never started. */
  outcome: Ended | undefined;
}

/**
 * The life of one transfer: preparing its ends, running in the core, letting go of the ends,
 * settled. The first failure wins, whoever notices it.
 */
export class Task implements Work {
  readonly transfer: Transfer;
  /** Lets go of the ends; the promise settles after it. */
  release: (ending: Ending) => Promise<void> | void = nothing;
  readonly #settings: Settings;
  readonly #trace: Trace | undefined;
  readonly #startedAt = performance.now();
  readonly #resolve: (result: TrafficResult) => void;
  readonly #reject: (error: Error) => void;
  #mistake: Error | undefined;
  #forgetSignal = nothing;
  #running: Running | undefined;
  #engine: TrafficResult['engine'] = 'native';
  #traffic: Traffic = IDLE.traffic;
  #failure: Failure | undefined;
  #over = false;
  #report = nothing;
  #reported = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(kind: TransferKind, settings: Settings) {
    this.#settings = settings;
    this.#trace = traceStart(kind);
    const { onProgress } = settings;
    // The last call may come from the core's callback, which has no context of its own.
    if (onProgress !== undefined) this.#report = AsyncResource.bind(() => this.#progress(onProgress));
    let resolve: (result: TrafficResult) => void = () => {};
    let reject: (error: Error) => void = () => {};
    const transfer = new TransferPromise((...settle) => ([resolve, reject] = settle));
    transfer.work = this;
    this.transfer = transfer;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Obeys the signal from here on; the ends must already be taken over. */
  obeySignal(): void {
    const { signal } = this.#settings;
    if (signal === undefined) return;
    if (signal.aborted) this.abort(signal.reason);
    else this.#forgetSignal = onAbort(signal, (reason) => this.abort(reason));
  }

  get traffic(): Traffic {
    const { tx, rx } = this.#running === undefined || this.#over ? this.#traffic : this.#running.traffic();
    return { tx, rx, total: tx + rx };
  }

  /** Whether it has failed or ended: nothing more is to be prepared for it. */
  get isOver(): boolean {
    return this.#over || this.#failure !== undefined;
  }

  abort(reason: unknown): void {
    this.fail(aborted(reason));
  }

  /** Ends the transfer with this failure, unless it has ended or failed before. */
  fail(failure: Failure): void {
    if (this.isOver) return;
    this.#failure = failure;
    if (this.#running === undefined) this.#finish(undefined);
    else this.#running.abort();
  }

  /** Ends what has not started yet because of a caller's mistake: that rejects, whatever `reject` says. */
  refuse(mistake: Error): void {
    if (this.isOver) return;
    this.#mistake = mistake;
    this.#finish(undefined);
  }

  /** Runs in the core, or on streams; `start` is told whom to report the outcome to. */
  run(
    start: (settled: (outcome: Ended) => void) => Running,
    engine: TrafficResult['engine'] = 'native',
  ): void {
    this.#engine = engine;
    this.#running = start((outcome) => this.#finish(outcome));
    const { onProgress, progressInterval } = this.#settings;
    if (onProgress !== undefined) this.#timer = setInterval(this.#report, progressInterval).unref();
  }

  #progress(onProgress: (traffic: Traffic) => void): void {
    const { traffic } = this;
    if (!this.#over && traffic.total === this.#reported) return;
    this.#reported = traffic.total;
    try {
      onProgress(traffic);
    } catch (cause) {
      const failure: Failure = { what: 'onProgress threw', code: 'ABORT_ERR', cause };
      if (this.#over) this.#failure ??= failure;
      else this.fail(failure);
    }
  }

  #finish(outcome: Ended | undefined): void {
    if (outcome !== undefined) {
      const { tx, rx } = outcome;
      this.#traffic = { tx, rx, total: tx + rx };
      // An abort that came after the end, or after a failure of the system's, has changed nothing.
      const { error } = outcome;
      const failure = outcome.failure ?? (error === undefined ? undefined : reported(error));
      const wasFirst = failure?.errno !== undefined ? undefined : this.#failure;
      this.#failure = failure === undefined ? undefined : (wasFirst ?? failure);
    }
    this.#over = true;
    this.#forgetSignal();
    clearInterval(this.#timer);
    this.#report();
    const failure = this.#failure;
    const released = this.release({ failure, outcome });
    if (released === undefined) this.#settle(failure, outcome);
    else void released.then(() => this.#settle(failure, outcome));
  }

  #settle(failure: Failure | undefined, outcome: Ended | undefined): void {
    if (this.#mistake !== undefined) {
      this.#trace?.failed(this.#mistake);
      this.#reject(this.#mistake);
      return;
    }
    const error =
      failure === undefined ? null : new TransferError(failure.what, { ...failure, traffic: this.traffic });
    const durationMs = performance.now() - this.#startedAt;
    const zeroCopy = outcome?.zeroCopy ?? 0;
    const { tx, rx, total } = this.#traffic;
    const result: TrafficResult = { tx, rx, total, zeroCopy, durationMs, engine: this.#engine, error };
    if (error === null) this.#trace?.ended(result);
    else this.#trace?.failed(error, result);
    if (error !== null && this.#settings.reject) this.#reject(error);
    else this.#resolve(result);
  }
}

function reported({ reason, errno, syscall, side }: NonNullable<Ended['error']>): Failure {
  if (reason === 'truncated') {
    return {
      what: 'the file became shorter while it was sent',
      code: 'ERR_SOURCE_TRUNCATED',
      side: 'source',
    };
  }
  if (reason === 'idle') return { what: 'no byte moved in time', code: 'ERR_IDLE_TIMEOUT' };
  if (reason === 'halfOpen') {
    return {
      what: 'the other direction has ended and this one did not in time',
      code: 'ERR_HALF_CLOSE_TIMEOUT',
      side: side as Side,
    };
  }
  if (errno === undefined || syscall === undefined) return aborted(undefined);
  return systemFailure(errno, syscall, side as Side | undefined);
}
