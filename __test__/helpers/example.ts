// Runs an example in a separate process, started as its README describes.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

import { until, within } from './wait.js';

/** A running example and its output. */
export class Example {
  readonly child: ChildProcess;
  /** The lines on stdout and stderr so far. */
  readonly lines: string[] = [];
  readonly #ended: Promise<unknown>;

  /** `file` is a path below examples/. The end of the test kills the process. */
  constructor(t: ExecutionContext, file: string, args: string[]) {
    const path = fileURLToPath(new URL(`../../examples/${file}`, import.meta.url));
    const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    for (const output of [child.stdout, child.stderr]) {
      createInterface(output).on('line', (line) => this.lines.push(line));
    }
    this.child = child;
    this.#ended = once(child, 'close');
  }

  /** Starts an example that listens on a free port of the loopback address. */
  static async listening(
    t: ExecutionContext,
    file: string,
    ...args: string[]
  ): Promise<{ example: Example; port: number }> {
    const example = new Example(t, file, ['--listen', '127.0.0.1:0', ...args]);
    const line = await example.line(/^listening on /);
    return { example, port: Number(/:(\d+)$/.exec(line)?.[1]) };
  }

  /** The matching line number `index`, counted from 0. */
  async line(pattern: RegExp, index = 0): Promise<string> {
    const found = await until(
      `line ${index} like ${pattern} (${this.lines.slice(-5).join('; ')})`,
      () => this.lines.filter((line) => pattern.test(line)),
      ({ length }) => length > index || this.child.exitCode !== null,
    );
    const line = found[index];
    if (line === undefined) throw new Error(`the example has ended: ${this.lines.join('\n')}`);
    return line;
  }

  signal(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.child.kill(signal);
  }

  /** Waits for the end of the process. Returns its exit status, or the name of the signal that ended it. */
  async ended(): Promise<number | string | null> {
    await within(30_000, `the example ends (${this.lines.slice(-5).join('; ')})`, this.#ended);
    return this.child.signalCode ?? this.child.exitCode;
  }
}
