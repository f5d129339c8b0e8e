import { AsyncResource } from 'node:async_hooks';
import { performance } from 'node:perf_hooks';
import { type Trace, traceStart, type TransferKind } from './diagnostics.js';
import { aborted, type Failure, idle, systemFailure, TransferError } from '../contract/errors.js';
import { binding, type Outcome } from '../core/core.js';
import type { Settings } from '../contract/options.js';
import { onAbort } from './abort-signal.js';
import { streamFailure } from '../stream/failures.js';
import type { Side, Traffic, TrafficResult, Transfer } from '../contract/types.js';

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
  /** What moves its bytes, or would have. */
  engine: TrafficResult['engine'] = binding() === undefined ? 'stream' : 'native';
  readonly #settings: Settings;
  readonly #trace: Trace | undefined;
  /** Who asked for it, where there is something to call: that is called in their context, whoever ends the transfer. */
  readonly #caller: AsyncResource | undefined;
  readonly #startedAt = performance.now();
  readonly #resolve: (result: TrafficResult) => void;
  readonly #reject: (error: Error) => void;
  #mistake: Error | undefined;
  #forgetSignal = nothing;
  #running: Running | undefined;
  #traffic: Traffic = IDLE.traffic;
  #failure: Failure | undefined;
  #over = false;
  #reported = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(kind: TransferKind, settings: Settings) {
    this.#settings = settings;
    this.#trace = traceStart(kind);
    if (this.#trace !== undefined || settings.onProgress !== undefined)
      this.#caller = new AsyncResource('fdsplice.Transfer');
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

  /** Milliseconds, also of what has to happen before it starts. */
  get idleTimeout(): number | undefined {
    return this.#settings.how.idleTimeout;
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
    if (this.#running === undefined) this.#end(undefined);
    else this.#running.abort();
  }

  /** Ends what has not started yet because of a caller's mistake: that rejects, whatever `reject` says. */
  refuse(mistake: Error): void {
    if (this.isOver) return;
    this.#mistake = mistake;
    this.#end(undefined);
  }

  /** Runs in the core, or on streams; `start` is told whom to report the outcome to. */
  run(start: (settled: (outcome: Ended) => void) => Running, engine = this.engine): void {
    this.engine = engine;
    this.#running = start((outcome) => this.#end(outcome));
    const { onProgress, progressInterval } = this.#settings;
    if (onProgress === undefined || this.#over) return;
    const report = () => this.#inContext(() => this.#report());
    this.#timer = setInterval(report, progressInterval).unref();
  }

  #report(): void {
    const { traffic } = this;
    const { onProgress } = this.#settings;
    if (!this.#over && traffic.total === this.#reported) return;
    this.#reported = traffic.total;
    try {
      onProgress?.(traffic);
    } catch (cause) {
      const failure: Failure = { what: 'onProgress threw', code: 'ABORT_ERR', cause };
      if (this.#over) this.#failure ??= failure;
      else this.fail(failure);
    }
  }

  #inContext(call: () => void): void {
    if (this.#caller === undefined) call();
    else this.#caller.runInAsyncScope(call);
  }

  #end(outcome: Ended | undefined): void {
    this.#inContext(() => this.#finish(outcome));
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
    // What ending the destination throws, as a response whose length is not that of its body.
    const unreleased = (error: unknown) => {
      this.#failure ??= streamFailure('destination', error as Error);
      this.#settle(outcome);
    };
    let released;
    try {
      released = this.release({ failure: this.#failure, outcome });
    } catch (error) {
      unreleased(error);
      return;
    }
    if (released === undefined) this.#settle(outcome);
    else released.then(() => this.#settle(outcome), unreleased);
  }

  #settle(outcome: Ended | undefined): void {
    const failure = this.#failure;
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
    const result: TrafficResult = { tx, rx, total, zeroCopy, durationMs, engine: this.engine, error };
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
  if (reason === 'idle') return idle();
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
