// The output of `fdsplice relay`: one line per event.
import prettyBytes from 'pretty-bytes';
import { stats } from '../../index.js';
import { escapeControls, jsonLine, lineWriter, withCode } from './text.js';

export interface ConnectionReport {
  client: string;
  target: string;
  tx: number;
  rx: number;
  durationMs: number;
  engine: string;
  /** `afterEnd`: the side had sent all it had, and closed. This is no failed connection. */
  error: { code: string; side: string | null; message: string; afterEnd?: true } | null;
}

/** Whether a connection has failed. A side that has ended its input may close whenever it has what it wants. */
export function hasFailed({ error }: ConnectionReport): boolean {
  return error !== null && error.afterEnd !== true;
}

export interface Totals {
  /** Connections that were relayed, including the failed ones. */
  connections: number;
  failed: number;
  /** Connections that were reset because of `--max-connections`. */
  refused: number;
  tx: number;
  rx: number;
}

export interface ReportOptions {
  json: boolean;
  quiet: boolean;
}

/** Writes one line per event to stdout, and problems of the server itself to stderr. */
export class Reporter {
  readonly #json: boolean;
  readonly #quiet: boolean;
  readonly #print = lineWriter(process.stdout);
  readonly #printError = lineWriter(process.stderr);

  constructor(options: ReportOptions) {
    this.#json = options.json;
    this.#quiet = options.quiet;
  }

  listening(address: string): void {
    if (!this.#quiet) {
      this.#event({ event: 'listening', address }, `listening on ${address}`);
    }
  }

  connection(report: ConnectionReport): void {
    if (!this.#quiet || hasFailed(report)) {
      this.#event({ event: 'connection', ...report }, connectionLine(report));
    }
  }

  /** The number of running connections, and the live counts of all connections so far. */
  stats(active: number, connections: number): void {
    if (!this.#quiet) {
      const { tx, rx, pipes } = stats();
      this.#event(
        { event: 'stats', active, connections, tx, rx, pipes },
        statsLine(active, connections, tx, rx),
      );
    }
  }

  closed(totals: Totals): void {
    if (!this.#quiet) {
      this.#event({ event: 'closed', ...totals }, closedLine(totals));
    }
  }

  problem(message: string): void {
    this.#printError(escapeControls(`fdsplice: ${message}`));
  }

  /** Resolves when stdout has accepted every line. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      process.stdout.write('', () => resolve());
    });
  }

  #event(event: object, line: string): void {
    this.#print(this.#json ? jsonLine(event) : escapeControls(line));
  }
}

function connectionLine({ client, target, tx, rx, durationMs, error }: ConnectionReport): string {
  const counts = `tx ${prettyBytes(tx)}  rx ${prettyBytes(rx)}  ${Math.round(durationMs)} ms`;
  const line = `${client} -> ${target}  ${counts}`;
  if (error === null) return line;
  if (error.afterEnd === true) return `${line}  closed by the ${error.side === 'a' ? 'client' : 'target'}`;
  return `${line}  ${withCode(error.code, error.message)}`;
}

function statsLine(active: number, connections: number, tx: number, rx: number): string {
  const counts = `tx ${prettyBytes(tx)}  rx ${prettyBytes(rx)}`;
  return `stats  active ${active}  connections ${connections}  ${counts}`;
}

function closedLine({ connections, failed, refused, tx, rx }: Totals): string {
  const endings = `connections ${connections}  failed ${failed}  refused ${refused}`;
  return `closed  ${endings}  tx ${prettyBytes(tx)}  rx ${prettyBytes(rx)}`;
}
