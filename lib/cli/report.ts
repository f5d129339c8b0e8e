import prettyBytes from 'pretty-bytes';
import { escapeControls, jsonLine, withCode } from './text.js';

export interface ConnectionReport {
  client: string;
  target: string;
  tx: number;
  rx: number;
  durationMs: number;
  engine: string;
  error: { code: string; side: string | null; message: string } | null;
}

export interface Totals {
  /** Connections that were relayed, the failed ones among them. */
  connections: number;
  failed: number;
  /** Connections that were turned away because of the limit. */
  refused: number;
  tx: number;
  rx: number;
}

export interface ReportOptions {
  json: boolean;
  quiet: boolean;
}

/** Writes one line an event to stdout, and what goes wrong with the server itself to stderr. */
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
    if (!this.#quiet || report.error !== null) {
      this.#event({ event: 'connection', ...report }, connectionLine(report));
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

  /** Resolves once stdout has taken every line. */
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
  return error === null ? line : `${line}  ${withCode(error.code, error.message)}`;
}

function closedLine({ connections, failed, refused, tx, rx }: Totals): string {
  const endings = `connections ${connections}  failed ${failed}  refused ${refused}`;
  return `closed  ${endings}  tx ${prettyBytes(tx)}  rx ${prettyBytes(rx)}`;
}

/** A reader that goes away (EPIPE) ends the report, never the connections that are being relayed. */
function lineWriter(stream: NodeJS.WriteStream): (line: string) => void {
  let readable = true;
  stream.on('error', () => {
    readable = false;
  });
  return (line) => {
    if (readable) {
      stream.write(`${line}\n`);
    }
  };
}
