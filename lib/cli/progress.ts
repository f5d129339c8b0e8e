// The progress bar of `fdsplice copy`.
import cliProgress, { type Options } from 'cli-progress';
import prettyBytes from 'pretty-bytes';
import type { Transfer } from '../../index.js';

const INTERVAL_MS = 100;
// The rate and the remaining time are computed from the latest 20 counts, which span two seconds.
const SAMPLES = 20;

const KNOWN_SIZE = '{percentage}% [{bar}] {value} of {total}  {rate}/s  ETA {eta_formatted}';
const UNKNOWN_SIZE = '{value}  {rate}/s  {duration_formatted}';

/** Draws the progress of a transfer until `stop`. */
export class Progress {
  readonly #transfer: Transfer;
  readonly #bar: cliProgress.SingleBar;
  readonly #timer: NodeJS.Timeout;
  readonly #samples = [{ at: performance.now(), bytes: 0 }];

  /** `total` is absent if the size of the source is unknown. */
  constructor(transfer: Transfer, total: number | undefined) {
    this.#transfer = transfer;
    this.#bar = new cliProgress.SingleBar({
      format: total === undefined ? UNKNOWN_SIZE : KNOWN_SIZE,
      barsize: 20,
      etaBuffer: SAMPLES,
      clearOnComplete: true,
      stream: process.stderr,
      formatValue,
      formatTime,
    });
    this.#bar.start(total ?? 0, 0, { rate: prettyBytes(0) });
    this.#timer = setInterval(() => this.#update(), INTERVAL_MS);
  }

  /** Removes the bar from the screen. */
  stop(): void {
    clearInterval(this.#timer);
    this.#update();
    this.#bar.stop();
  }

  #update(): void {
    const { tx } = this.#transfer.traffic;
    this.#bar.update(tx, { rate: prettyBytes(this.#rate(tx)) });
  }

  #rate(bytes: number): number {
    const now = { at: performance.now(), bytes };
    this.#samples.push(now);
    if (this.#samples.length > SAMPLES) {
      this.#samples.shift();
    }
    const [first = now] = this.#samples;
    return now.at === first.at ? 0 : Math.round(((bytes - first.bytes) / (now.at - first.at)) * 1000);
  }
}

function formatValue(value: number, _options: Options, kind: string): string {
  return kind === 'value' || kind === 'total' ? prettyBytes(value) : String(value);
}

/** Formats the remaining time, which is unknown while no byte moves. */
function formatTime(seconds: number, options: Options, roundTo: number): string {
  return Number.isFinite(seconds) ? cliProgress.Format.TimeFormat(seconds, options, roundTo) : 'unknown';
}
