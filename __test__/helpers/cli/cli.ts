// Runs `fdsplice` in a separate process, started as from a shell, and reads its output.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

export const MAIN = fileURLToPath(new URL('../../../dist/lib/cli/main.js', import.meta.url));

// Far above any expected duration: the limit only ends a test that would hang.
const TIMEOUT_MS = 60_000;

export interface ConnectionEvent {
  event: 'connection';
  client: string;
  target: string;
  tx: number;
  rx: number;
  durationMs: number;
  engine: string;
  error: { code: string; side: string | null; message: string; afterEnd?: true } | null;
}

/** Runs the command line to its end and returns its status and output. */
export async function runCli(
  ...args: string[]
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const limit = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL' } as const;
  const child = spawn(process.execPath, [MAIN, ...args], { ...limit, stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { status: child.exitCode, stdout, stderr };
}

export interface StatsEvent {
  event: 'stats';
  active: number;
  connections: number;
  tx: number;
  rx: number;
  pipes: { leased: number; idle: number; created: number };
}

export interface StartOptions {
  /** The limit of open descriptors of the process. */
  descriptors?: number;
  /** A command prefix that runs the relay under the same process id. */
  under?: string[];
}

/** A running `fdsplice relay`. The end of the test kills it. */
export class Relay {
  readonly child: ChildProcess;
  /** The lines on stdout so far. */
  readonly lines: string[] = [];
  /** The text on stderr so far. */
  stderr = '';
  #closed = false;

  constructor(t: ExecutionContext, args: string[], { descriptors, under = [] }: StartOptions = {}) {
    const command = [...under, process.execPath, MAIN, 'relay', ...args];
    // `exec` keeps the process id, so a signal reaches the relay and not the shell.
    const [file = '', ...rest] =
      descriptors === undefined
        ? command
        : ['/bin/sh', '-c', `ulimit -n ${descriptors} && exec "$@"`, 'sh', ...command];
    const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    t.teardown(() => child.kill('SIGKILL'));
    createInterface(child.stdout).on('line', (line) => this.lines.push(line));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (this.stderr += chunk));
    child.on('close', () => (this.#closed = true));
  }

  /** Starts a relay with `--json` on a free port. */
  static async onPort(t: ExecutionContext, target: string, options: string[] = [], start?: StartOptions) {
    const relay = new Relay(t, ['--json', ...options, '127.0.0.1:0', target], start);
    const { address } = await relay.event<{ event: 'listening'; address: string }>('listening');
    return { relay, port: portOf(address) };
  }

  /** Polls until `find` returns a value from the output. */
  async until<T>(expected: string, find: () => T | undefined): Promise<T> {
    const deadline = performance.now() + TIMEOUT_MS;
    for (;;) {
      const ended = this.#closed;
      const found = find();
      if (found !== undefined) {
        return found;
      }
      if (ended || performance.now() > deadline) {
        throw new Error(`no ${expected}\nstdout: ${this.lines.slice(-5).join('\n')}\nstderr: ${this.stderr}`);
      }
      await sleep(5);
    }
  }

  line(pattern: RegExp): Promise<string> {
    return this.until(`line like ${pattern}`, () => this.lines.find((line) => pattern.test(line)));
  }

  /** The events of one kind so far. Needs `--json`. */
  events<T extends { event: string }>(kind: T['event']): T[] {
    return this.lines.map((line) => JSON.parse(line) as T).filter(({ event }) => event === kind);
  }

  event<T extends { event: string }>(kind: T['event'], index = 0): Promise<T> {
    return this.until(`event ${kind} ${index}`, () => this.events<T>(kind)[index]);
  }

  connection(index = 0): Promise<ConnectionEvent> {
    return this.event<ConnectionEvent>('connection', index);
  }

  /** Waits for the end of the process and of its output. Returns the exit status, or null after a signal. */
  async ended(): Promise<number | null> {
    await this.until('end', () => this.#closed || undefined);
    return this.child.exitCode;
  }

  /** Stops the relay with SIGTERM, which lets its connections finish. */
  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return this.ended();
  }
}

export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}
