import { setTimeout as delay } from 'node:timers/promises';
import { copy, sendFile, type TrafficResult, type Transfer } from '../../index.js';
import { CopyEnds, type EndsSettings, OpenError } from './endpoints.js';
import { type CopyOutcome, CopyReport } from './copy-report.js';
import { delivered } from './deliver.js';
import type { OpenEnd } from './open.js';
import type { ReportOptions } from './report.js';
import { StopSignals } from './stop-signals.js';
import { codeOf, describeError } from './text.js';

export interface CopySettings extends ReportOptions, EndsSettings {
  /** Bytes per second. */
  rateLimit?: number;
  /** Milliseconds. */
  idleTimeout?: number;
}

/** How long a transfer that was aborted twice is given to settle. */
const SETTLE_MS = 250;

/** Copies until the source ends, a signal comes or something fails. Gives the exit status. */
export async function copyCommand(settings: CopySettings): Promise<number> {
  const signals = new StopSignals();
  const stop = new AbortController();
  void signals.first.then(() => stop.abort());
  const report = new CopyReport({ ...settings, toStdout: settings.destination.kind === 'stdio' });
  const run = new CopyRun(settings, stop.signal, report);
  const outcome = await Promise.race([run.outcome(), signals.second.then(() => run.stoppedAtOnce())]);
  report.ended(outcome);
  return outcome.error === null ? 0 : 1;
}

class CopyRun {
  readonly #settings: CopySettings;
  readonly #signal: AbortSignal;
  readonly #report: CopyReport;
  readonly #ends: CopyEnds;
  #transfer: Transfer | undefined;
  #startedAt = performance.now();
  #result: TrafficResult | undefined;

  constructor(settings: CopySettings, signal: AbortSignal, report: CopyReport) {
    this.#settings = settings;
    this.#signal = signal;
    this.#report = report;
    this.#ends = new CopyEnds(settings, signal);
  }

  async outcome(): Promise<CopyOutcome> {
    const ends = this.#ends;
    try {
      const { source, destination } = await ends.open((address) => this.#report.listening(address));
      await this.#run(source, destination);
      const outcome = this.#outcome(this.#result?.tx ?? 0, null);
      await ends.close();
      return outcome;
    } catch (error) {
      return this.#failed(error, await ends.breakOff());
    }
  }

  /** Without a moment's wait for whatever does not end. */
  async stoppedAtOnce(): Promise<CopyOutcome> {
    // Exact counts come with the end of the transfer, for which only a file on a slow disk makes it wait.
    await Promise.race([Promise.allSettled([this.#transfer]), delay(SETTLE_MS)]);
    return this.#failed(undefined, await this.#ends.breakOff(0));
  }

  /** How it ended that did not end well; the last `lost` bytes were taken by this machine and did not arrive. */
  #failed(error: unknown, lost: number): CopyOutcome {
    const arrived = (this.#transfer?.traffic.tx ?? 0) - lost;
    if (this.#signal.aborted) {
      const message = `interrupted after ${arrived} bytes`;
      return this.#outcome(arrived, { code: 'ABORT_ERR', side: null, message });
    }
    const reason = error instanceof OpenError ? error.message : describeError(error);
    const message = reason + (lost === 0 ? '' : `; ${lost} bytes that were accepted did not arrive`);
    return this.#outcome(arrived, { code: codeOf(error) ?? 'ERR_FAILED', side: sideOf(error), message });
  }

  #outcome(bytes: number, error: CopyOutcome['error']): CopyOutcome {
    const { zeroCopy = 0, engine = null } = this.#result ?? {};
    const durationMs = this.#transfer === undefined ? 0 : performance.now() - this.#startedAt;
    return { bytes, durationMs, zeroCopy, engine, error };
  }

  async #run(source: OpenEnd, destination: OpenEnd): Promise<void> {
    const { rateLimit, idleTimeout } = this.#settings;
    const options = { signal: this.#signal, reject: false, rateLimit, idleTimeout };
    const size = source.kind === 'file' && source.stat.isFile() ? source.stat.size : undefined;
    this.#startedAt = performance.now();
    this.#transfer =
      source.kind === 'file' && size !== undefined
        ? sendFile(source.what, destination.what, options)
        : copy(source.what, destination.what, options);
    // A size of 0 says nothing: files of procfs have it too.
    this.#report.running(this.#transfer, size === 0 ? undefined : size);
    this.#result = await this.#transfer;
    if (this.#result.error !== null) {
      throw this.#result.error;
    }
    if (destination.kind === 'socket') {
      await delivered(destination.what, { signal: this.#signal, idleTimeout });
    }
  }
}

function sideOf(error: unknown): string | null {
  return error instanceof Error && 'side' in error && typeof error.side === 'string' ? error.side : null;
}
