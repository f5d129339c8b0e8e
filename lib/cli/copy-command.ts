// `fdsplice copy`: runs one copy and reports it.
import { setTimeout as delay } from 'node:timers/promises';
import { copy, sendFile, type TrafficResult, type Transfer } from '../../index.js';
import { Endpoints, type EndpointSettings, OpenError } from './endpoints.js';
import { type CopyOutcome, CopyReport } from './copy-report.js';
import { delivered } from './deliver.js';
import type { OpenEndpoint } from './open.js';
import type { ReportOptions } from './report.js';
import { StopSignals } from './stop-signals.js';
import { codeOf, describeError } from './text.js';

export interface CopySettings extends ReportOptions, EndpointSettings {
  /** Bytes per second. */
  rateLimit?: number;
  /** Milliseconds. */
  idleTimeout?: number;
}

/** Milliseconds that a transfer may take to settle after a second signal. */
const SETTLE_MS = 250;

/** Copies until the source ends, a signal arrives or something fails. Resolves with the exit status. */
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
  readonly #endpoints: Endpoints;
  #transfer: Transfer | undefined;
  #startedAt = performance.now();
  #result: TrafficResult | undefined;

  constructor(settings: CopySettings, signal: AbortSignal, report: CopyReport) {
    this.#settings = settings;
    this.#signal = signal;
    this.#report = report;
    this.#endpoints = new Endpoints(settings, signal);
  }

  async outcome(): Promise<CopyOutcome> {
    const endpoints = this.#endpoints;
    try {
      const { source, destination } = await endpoints.open((address) => this.#report.listening(address));
      await this.#run(source, destination);
      const outcome = this.#outcome(this.#result?.tx ?? 0, null);
      await endpoints.close();
      return outcome;
    } catch (error) {
      return this.#failed(error, await endpoints.breakOff());
    }
  }

  /** The outcome after a second signal. */
  async stoppedAtOnce(): Promise<CopyOutcome> {
    // Only a settled transfer has exact counts. A file on a slow disk can delay the settlement.
    await Promise.race([Promise.allSettled([this.#transfer]), delay(SETTLE_MS)]);
    return this.#failed(undefined, await this.#endpoints.breakOff(0));
  }

  /** The outcome of a failed or stopped copy. The last `lost` bytes were accepted by this machine and did not arrive. */
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

  async #run(source: OpenEndpoint, destination: OpenEndpoint): Promise<void> {
    const { rateLimit, idleTimeout } = this.#settings;
    const options = { signal: this.#signal, reject: false, rateLimit, idleTimeout };
    const size = source.kind === 'file' && source.stat.isFile() ? source.stat.size : undefined;
    this.#startedAt = performance.now();
    this.#transfer =
      source.kind === 'file' && size !== undefined
        ? sendFile(source.handle, destination.handle, options)
        : copy(source.handle, destination.handle, options);
    // Size 0 is no known size, because files in procfs report it too.
    this.#report.running(this.#transfer, size === 0 ? undefined : size);
    this.#result = await this.#transfer;
    if (this.#result.error !== null) {
      throw this.#result.error;
    }
    if (destination.kind === 'socket') {
      await delivered(destination.handle, { signal: this.#signal, idleTimeout });
    }
  }
}

function sideOf(error: unknown): string | null {
  return error instanceof Error && 'side' in error && typeof error.side === 'string' ? error.side : null;
}
