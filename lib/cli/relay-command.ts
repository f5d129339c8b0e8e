// `fdsplice relay`: accepts connections and relays each to the target, until a signal.
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type Connection, type ConnectionSettings, nameClient, startConnection } from './connection.js';
import { listen } from './listen.js';
import { hasFailed, Reporter, type ReportOptions, type Totals } from './report.js';
import { KEEP_ALIVE, reset } from './sockets.js';
import { StopSignals } from './stop-signals.js';
import { describeError } from './text.js';

export interface RelaySettings extends ConnectionSettings, ReportOptions {
  maxConnections: number;
  /** Milliseconds. */
  grace: number;
  /** Milliseconds between two lines of statistics. */
  stats?: number;
}

/** Accepts and relays until a signal. Resolves with the exit status. */
export async function relayCommand(settings: RelaySettings): Promise<number> {
  const report = new Reporter(settings);
  const signals = new StopSignals();
  const relays = new Relays(settings, report);

  const server = createServer({ ...KEEP_ALIVE, allowHalfOpen: true, pauseOnConnect: true });
  server.on('connection', (client) => relays.add(client));
  try {
    report.listening(await listen(server, settings.listen));
  } catch (error) {
    report.problem(`cannot listen: ${describeError(error)}`);
    return 1;
  }
  if (settings.stats !== undefined) {
    setInterval(() => report.stats(relays.size, relays.totals.connections), settings.stats).unref();
  }
  // Without a free descriptor, accepting fails for one connection; the next one may succeed.
  server.on('error', (error) => report.problem(`cannot accept: ${describeError(error)}`));

  await signals.first;
  const complete = await stop(server, relays, signals, settings.grace, report);
  report.closed(relays.totals);
  await Promise.race([report.flush(), signals.second]);
  return complete ? 0 : 1;
}

/** Stops accepting and waits for the connections. Resolves with false if some were cut off. */
async function stop(
  server: Server,
  relays: Relays,
  signals: StopSignals,
  grace: number,
  report: Reporter,
): Promise<boolean> {
  server.close();
  const drained = relays.drained();
  const outcome = await Promise.race([
    drained,
    delay(grace, 'the grace period is over'),
    signals.second.then(() => 'stopped at once'),
  ]);
  if (outcome === undefined) {
    return true;
  }
  report.problem(`${outcome}, connections cut off: ${relays.size}`);
  relays.abort(new Error(outcome));
  await drained;
  return false;
}

/** The running connections, and the totals of all that have ended. */
class Relays {
  readonly totals: Totals = { connections: 0, failed: 0, refused: 0, tx: 0, rx: 0 };
  readonly #running = new Map<Connection, Promise<void>>();
  readonly #settings: RelaySettings;
  readonly #report: Reporter;

  constructor(settings: RelaySettings, report: Reporter) {
    this.#settings = settings;
    this.#report = report;
  }

  get size(): number {
    return this.#running.size;
  }

  add(client: Socket): void {
    const { maxConnections, listen } = this.#settings;
    if (this.size >= maxConnections) {
      this.totals.refused += 1;
      this.#report.problem(
        `${nameClient(client, listen)} refused: --max-connections ${maxConnections} is reached`,
      );
      reset(client, listen);
      return;
    }
    const connection = startConnection(client, this.#settings);
    this.#running.set(connection, this.#watch(connection));
  }

  abort(reason: Error): void {
    for (const connection of this.#running.keys()) {
      connection.abort(reason);
    }
  }

  async drained(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  async #watch(connection: Connection): Promise<void> {
    this.totals.connections += 1;
    try {
      const report = await connection.finished;
      this.totals.tx += report.tx;
      this.totals.rx += report.rx;
      this.totals.failed += hasFailed(report) ? 1 : 0;
      this.#report.connection(report);
    } catch (error) {
      this.totals.failed += 1;
      this.#report.problem(`cannot relay: ${describeError(error)}`);
    } finally {
      this.#running.delete(connection);
    }
  }
}
