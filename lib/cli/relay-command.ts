// `fdsplice relay`: accepts connections and relays each to a target, until a signal.
import { setTimeout as delay } from 'node:timers/promises';
import { Ledger } from './ledger.js';
import type { Relays, RelaysSettings } from './relays.js';
import { Reporter, type ReportOptions } from './report.js';
import { StopSignals } from './stop-signals.js';
import { StreamRelays } from './stream-relays.js';
import { describeError } from './text.js';

export interface RelaySettings extends RelaysSettings, ReportOptions {
  /** Milliseconds. */
  grace: number;
  /** Milliseconds between two lines of statistics. */
  stats?: number;
}

/** Accepts and relays until a signal. Resolves with the exit status. */
export async function relayCommand(settings: RelaySettings): Promise<number> {
  const report = new Reporter(settings);
  const signals = new StopSignals();
  const ledger = new Ledger(report, settings.maxConnections);

  const relays = new StreamRelays(settings, ledger);
  try {
    report.listening(await relays.listen());
  } catch (error) {
    report.problem(`cannot listen: ${describeError(error)}`);
    return 1;
  }
  if (settings.stats !== undefined) {
    setInterval(() => report.stats(relays.active, relays.connections), settings.stats).unref();
  }

  await signals.first;
  const complete = await stop(relays, signals, settings.grace, report);
  report.closed(ledger.totals);
  await Promise.race([report.flush(), signals.second]);
  return complete ? 0 : 1;
}

/** Stops accepting and waits for the connections. Resolves with false if some were cut off. */
async function stop(relays: Relays, signals: StopSignals, grace: number, report: Reporter): Promise<boolean> {
  const drained = relays.close();
  const outcome = await Promise.race([
    drained,
    delay(grace, 'the grace period is over'),
    signals.second.then(() => 'stopped at once'),
  ]);
  if (outcome === undefined) {
    return true;
  }
  report.problem(`${outcome}, connections cut off: ${relays.active}`);
  relays.abort(new Error(outcome));
  await drained;
  return false;
}
