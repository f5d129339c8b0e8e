// The connections of `fdsplice relay` that have ended: one line for each, and the totals.
import { type ConnectionReport, hasFailed, type Reporter, type Totals } from './report.js';
import { describeError } from './text.js';

/** Reports connections and counts them. */
export class Ledger {
  readonly totals: Totals = { connections: 0, failed: 0, refused: 0, tx: 0, rx: 0 };
  readonly #report: Reporter;
  readonly #maxConnections: number;

  constructor(report: Reporter, maxConnections: number) {
    this.#report = report;
    this.#maxConnections = maxConnections;
  }

  /** A connection was relayed, or its target could not be connected to. */
  ended(report: ConnectionReport): void {
    this.totals.connections += 1;
    this.totals.tx += report.tx;
    this.totals.rx += report.rx;
    this.totals.failed += hasFailed(report) ? 1 : 0;
    this.#report.connection(report);
  }

  /** A connection beyond `--max-connections` was reset. */
  refused(client: string): void {
    this.totals.refused += 1;
    this.#report.problem(`${client} refused: --max-connections ${this.#maxConnections} is reached`);
  }

  /** A relay could not be started. */
  notStarted(error: unknown): void {
    this.totals.connections += 1;
    this.totals.failed += 1;
    this.#report.problem(`cannot relay: ${describeError(error)}`);
  }

  /** A connection could not be accepted. The next one may be: descriptors become free. */
  notAccepted(error: unknown): void {
    this.#report.problem(`cannot accept: ${describeError(error)}`);
  }
}
