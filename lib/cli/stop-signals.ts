// SIGINT and SIGTERM as promises.
/** The first signal starts the grace period, the second one ends the command at once. */
export class StopSignals {
  readonly first: Promise<void>;
  readonly second: Promise<void>;

  constructor() {
    const waiting: (() => void)[] = [];
    this.first = new Promise((resolve) => waiting.push(resolve));
    this.second = new Promise((resolve) => waiting.push(resolve));
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => waiting.shift()?.());
    }
  }
}
