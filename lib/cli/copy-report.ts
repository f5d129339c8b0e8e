// The output of `fdsplice copy` on stderr: the address it listens on, the progress, and the outcome.
import { isatty } from 'node:tty';
import prettyBytes from 'pretty-bytes';
import type { Transfer } from '../../index.js';
import { Progress } from './progress.js';
import type { ReportOptions } from './report.js';
import { escapeControls, jsonLine, lineWriter } from './text.js';

/** How a copy ended, possibly before it started. */
export interface CopyOutcome {
  bytes: number;
  durationMs: number;
  zeroCopy: number;
  /** `null` if the copy never started. */
  engine: string | null;
  error: { code: string; side: string | null; message: string } | null;
}

export interface CopyReportOptions extends ReportOptions {
  /** Whether the destination is standard output, which may be the terminal that the progress bar would be drawn on. */
  toStdout: boolean;
}

/** Reports the progress and the outcome of a copy on stderr. */
export class CopyReport {
  readonly #options: CopyReportOptions;
  readonly #print = lineWriter(process.stderr);
  #progress: Progress | undefined;

  constructor(options: CopyReportOptions) {
    this.#options = options;
  }

  listening(address: string): void {
    const { json, quiet } = this.#options;
    if (!quiet) {
      this.#print(
        json ? jsonLine({ event: 'listening', address }) : escapeControls(`listening on ${address}`),
      );
    }
  }

  running(transfer: Transfer, total: number | undefined): void {
    const { json, quiet, toStdout } = this.#options;
    const onScreen = process.stderr.isTTY && !(toStdout && isatty(1));
    if (onScreen && !json && !quiet) {
      this.#progress = new Progress(transfer, total);
    }
  }

  ended(outcome: CopyOutcome): void {
    const { json, quiet } = this.#options;
    this.#progress?.stop();
    if (quiet && outcome.error === null) {
      return;
    }
    if (json) {
      this.#print(jsonLine({ event: 'copied', ...outcome }));
    } else {
      this.#print(escapeControls(outcome.error ? `fdsplice: ${outcome.error.message}` : copiedLine(outcome)));
    }
  }
}

function copiedLine({ bytes, durationMs }: CopyOutcome): string {
  const seconds = durationMs / 1000;
  const rate = seconds > 0 ? ` (${prettyBytes(Math.round(bytes / seconds))}/s)` : '';
  return `copied ${bytes} bytes (${prettyBytes(bytes)}) in ${seconds.toFixed(2)} s${rate}`;
}
