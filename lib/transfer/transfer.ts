// The promise that a caller gets and the life of the transfer behind it, the same for all verbs and both engines.
import { AsyncResource } from 'node:async_hooks';
import { clearInterval, now, setInterval } from '../contract/clock.js';
import {
  aborted,
  callbackThrew,
  type Failure,
  halfCloseTimeout,
  idle,
  internal,
  streamFailure,
  systemFailure,
  TransferError,
  truncated,
} from '../contract/errors.js';
import type { Settings } from '../contract/options.js';
import type { Side, Traffic } from '../contract/traffic.js';
import type { TrafficResult, Transfer } from '../contract/types.js';
import { binding, type NativeOutcome, type NativeTransfer } from '../core/core.js';
import { onAbort } from './abort-signal.js';
import { attempt } from './attempt.js';
import { type Trace, traceStart, type TransferKind } from './diagnostics.js';

/** The handle of an engine on a transfer whose bytes it moves. */
export type EngineTransfer = Pick<NativeTransfer, 'traffic' | 'abort'> &
  Partial<Pick<NativeTransfer, 'idleMs'>>;

/** Called by an engine when its transfer has ended; `failure` is one that it detected itself. */
export type Settled = (outcome: NativeOutcome, failure?: Failure) => void;

function nothing(): void {}

const NO_TRAFFIC: Traffic = { tx: 0, rx: 0, total: 0 };

class TransferPromise extends Promise<TrafficResult> implements Transfer {
  // `then` returns plain promises: only the promise of the call itself belongs to a transfer.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  /** Absent if the transfer never started because of a caller's mistake. */
  task: Task | undefined = undefined;

  get traffic(): Traffic {
    return this.task?.traffic ?? NO_TRAFFIC;
  }

  abort(reason: unknown = new DOMException('This operation was aborted', 'AbortError')): void {
    this.task?.abort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort();
    await this.catch(() => {});
  }
}

/** A transfer that does not start because of a caller's mistake: it rejects, also with `reject: false`. */
export function refused(mistake: Error): Transfer {
  return new TransferPromise((_resolve, reject) => reject(mistake));
}

/** How a transfer ended, as far as the release of its ends depends on it. */
export interface Ending {
  /** Absent after a clean end. */
  failure: Failure | undefined;
  /** The report of the engine; absent if no engine was started. */
  outcome: NativeOutcome | undefined;
}

/** `LATER`: the promise settles when {@link Task.released} is called. */
export type Release = Promise<Failure | void> | typeof LATER | void;

/** Returned by a release that calls {@link Task.released} at its end, so that short transfers need no promise. */
export const LATER = Symbol('fdsplice: later');

/**
 * The life of one transfer: its ends are prepared, an engine moves the bytes, the ends are released, the promise
 * settles. The first failure wins, wherever it was detected.
 */
export class Task {
  readonly transfer: Transfer;
  /** Releases the ends. The promise settles afterwards, with the failure that this returns, if there was none before. */
  release: (ending: Ending) => Release = nothing;
  /** Called once, before the promise settles. */
  settling: (() => void) | undefined = undefined;
  /** The engine that moves the bytes, or would have moved them. */
  engine: TrafficResult['engine'] = binding() === undefined ? 'stream' : 'native';
  readonly #settings: Settings;
  readonly #kind: TransferKind;
  readonly #trace: Trace | undefined;
  /** The async context of the call, for the caller's callbacks; absent if there are none. */
  readonly #caller: AsyncResource | undefined;
  readonly #startedAt = now();
  readonly #resolve: (result: TrafficResult) => void;
  readonly #reject: (error: Error) => void;
  #mistake: Error | undefined;
  /** Present once the signal is obeyed. */
  #forgetSignal: (() => void) | undefined;
  #running: EngineTransfer | undefined;
  #traffic: Traffic = NO_TRAFFIC;
  #zeroCopy = 0;
  #failure: Failure | undefined;
  #over = false;
  /** The total at the last call of `onProgress`. */
  #reported = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(kind: TransferKind, settings: Settings) {
    this.#settings = settings;
    this.#kind = kind;
    this.#trace = traceStart(kind);
    if (this.#trace !== undefined || settings.onProgress !== undefined)
      this.#caller = new AsyncResource('fdsplice.Transfer');
    let resolve: (result: TrafficResult) => void = () => {};
    let reject: (error: Error) => void = () => {};
    const transfer = new TransferPromise((byResult, byError) => {
      resolve = byResult;
      reject = byError;
    });
    transfer.task = this;
    this.transfer = transfer;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Obeys the signal from here on. `release` must be set, because the signal may have aborted already. */
  obeySignal(): void {
    const { signal } = this.#settings;
    if (signal === undefined) return;
    if (signal.aborted) this.abort(signal.reason);
    else this.#forgetSignal ??= onAbort(signal, (reason) => this.abort(reason));
  }

  /** Milliseconds; it applies to the preparation of the ends too. */
  get idleTimeout(): number | undefined {
    return this.#settings.moveOptions.idleTimeout;
  }

  get traffic(): Traffic {
    const { tx, rx } = this.#running === undefined || this.#over ? this.#traffic : this.#running.traffic();
    return { tx, rx, total: tx + rx };
  }

  /** Milliseconds since the core moved bytes; `Infinity` when it has moved none. */
  get idleMs(): number {
    return this.#running?.idleMs?.() ?? Infinity;
  }

  /** Whether it has failed or ended, so that nothing more must be prepared for it. */
  get isOver(): boolean {
    return this.#over || this.#failure !== undefined;
  }

  abort(reason: unknown): void {
    this.fail(aborted(reason));
  }

  /** Ends the transfer with this failure, unless it has ended or failed already. */
  fail(failure: Failure): void {
    if (this.isOver) return;
    this.#failure = failure;
    if (this.#running === undefined) {
      this.settled(undefined);
      return;
    }
    try {
      this.#running.abort();
    } catch {
      // The engine reports no outcome any more.
      this.settled(undefined);
    }
  }

  /** Runs a step of this transfer. What it throws is the failure of the transfer. */
  attempt(step: () => void): void {
    attempt((failure) => this.fail(failure), step);
  }

  /** Ends a transfer that has moved nothing because of a caller's mistake: it rejects, also with `reject: false`. */
  refuse(mistake: Error): void {
    if (this.isOver) return;
    this.#mistake = mistake;
    if (this.#running === undefined) this.settled(undefined);
    else this.fail(aborted(mistake));
  }

  /** Starts an engine. `start` is given the function that the engine calls with the outcome. */
  run(start: (settled: Settled) => EngineTransfer, engine = this.engine): void {
    this.engine = engine;
    this.#running = start((outcome, failure) => this.settled(outcome, failure));
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
      const failure = callbackThrew('onProgress', cause);
      if (this.#over) this.#failure ??= failure;
      else this.fail(failure);
    }
  }

  #inContext(call: () => void): void {
    if (this.#caller === undefined) call();
    else this.#caller.runInAsyncScope(call);
  }

  /** Ends the transfer with what its engine reports; `failure` is one that the engine has detected itself. */
  settled(outcome: NativeOutcome | undefined, failure?: Failure): void {
    if (this.#caller === undefined) this.#finish(outcome, failure);
    else this.#caller.runInAsyncScope(() => this.#finish(outcome, failure));
  }

  /** Releases the ends by {@link release}. A subclass may override it. */
  protected releaseEnds(ending: Ending): Release {
    return this.release(ending);
  }

  /** Settles the promise after a release that returned {@link LATER}; `error` is the exception of that release. */
  protected released(error?: unknown): void {
    if (error !== undefined) this.#failure ??= streamFailure(this.#sideOfDestination, error);
    this.#inContext(() => this.#settle());
  }

  get #sideOfDestination(): Side | undefined {
    return this.#kind === 'relay' ? undefined : 'destination';
  }

  #finish(outcome: NativeOutcome | undefined, detected: Failure | undefined): void {
    if (this.#over) return;
    if (outcome !== undefined) {
      const { tx, rx } = outcome;
      this.#traffic = { tx, rx, total: tx + rx };
      // An abort that came after the clean end, or after a failed system call, did not end the transfer.
      const { error } = outcome;
      const failure = detected ?? (error === undefined ? undefined : coreFailure(error));
      // Sockets of a call that hangs are broken off by the core, which this side may notice before the outcome.
      const isCause = failure?.errno !== undefined || (error?.stuck === true && error.reason === 'idle');
      const wasFirst = isCause ? undefined : this.#failure;
      this.#failure = failure === undefined ? undefined : (wasFirst ?? failure);
    }
    this.#over = true;
    this.#zeroCopy = outcome?.zeroCopy ?? 0;
    this.#forgetSignal?.();
    clearInterval(this.#timer);
    this.#report();
    // Ending the destination can throw, for example on a response whose Content-Length differs from the length of its body.
    const unreleased = (error: unknown) => {
      this.#failure ??= streamFailure(this.#sideOfDestination, error);
      this.#settle();
    };
    let released;
    try {
      released = this.releaseEnds({ failure: this.#failure, outcome });
    } catch (error) {
      unreleased(error);
      return;
    }
    if (released === LATER) return;
    if (released === undefined) this.#settle();
    else {
      released.then((failure) => {
        this.#failure ??= failure ?? undefined;
        this.#settle();
      }, unreleased);
    }
  }

  #settle(): void {
    this.settling?.();
    const failure = this.#failure;
    if (this.#mistake !== undefined) {
      this.#trace?.failed(this.#mistake);
      this.#reject(this.#mistake);
      return;
    }
    const error =
      failure === undefined
        ? null
        : new TransferError(failure.message, {
            ...failure,
            traffic: this.traffic,
            afterEnd: this.#kind === 'relay' ? failure.afterEnd === true : undefined,
          });
    const durationMs = now() - this.#startedAt;
    const { tx, rx, total } = this.#traffic;
    const zeroCopy = this.#zeroCopy;
    const result: TrafficResult = { tx, rx, total, zeroCopy, durationMs, engine: this.engine, error };
    if (error === null) this.#trace?.ended(result);
    else this.#trace?.failed(error, result);
    if (error !== null && this.#settings.reject) this.#reject(error);
    else this.#resolve(result);
  }
}

/** The failure that the core reported. */
function coreFailure({
  reason,
  errno,
  syscall,
  side,
  afterEnd,
}: NonNullable<NativeOutcome['error']>): Failure {
  if (reason === 'truncated') return truncated();
  if (reason === 'idle') return idle();
  if (reason === 'halfOpen') return halfCloseTimeout(side as Side);
  if (reason === 'died') return internal();
  if (errno === undefined || syscall === undefined) return aborted();
  return { ...systemFailure(errno, syscall, side as Side | undefined), afterEnd };
}
