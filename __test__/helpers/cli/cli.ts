// `fdsplice` as a process of its own, started the way a shell would.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

export const MAIN = fileURLToPath(new URL('../../../dist/lib/cli/main.js', import.meta.url));

// Only keeps a failing test from waiting for ever.
const PATIENCE_MS = 60_000;

export interface ConnectionEvent {
  event: 'connection';
  client: string;
  target: string;
  tx: number;
  rx: number;
  durationMs: number;
  engine: string;
  error: { code: string; side: string | null; message: string } | null;
}

/** Runs the command line to its end. */
export async function runCli(
  ...args: string[]
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const limit = { timeout: PATIENCE_MS, killSignal: 'SIGKILL' } as const;
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
  /** The most descriptors that the process may have open. */
  descriptors?: number;
  /** Another program that runs it, under the same process id. */
  under?: string[];
}

/** A running `fdsplice relay`, killed at the latest when the test ends. */
export class Relay {
  readonly child: ChildProcess;
  /** What it has written to stdout so far. */
  readonly lines: string[] = [];
  /** What it has written to stderr so far. */
  stderr = '';
  #closed = false;

  constructor(t: ExecutionContext, args: string[], { descriptors, under = [] }: StartOptions = {}) {
    const command = [...under, process.execPath, MAIN, 'relay', ...args];
    // `exec` keeps the process id, so that a signal reaches the relay and not the shell.
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

  /** Starts one with `--json` that listens on a free port. */
  static async onPort(t: ExecutionContext, target: string, options: string[] = [], start?: StartOptions) {
    const relay = new Relay(t, ['--json', ...options, '127.0.0.1:0', target], start);
    const { address } = await relay.event<{ event: 'listening'; address: string }>('listening');
    return { relay, port: portOf(address) };
  }

  /** Waits for what `look` finds in the output. */
  async until<T>(what: string, look: () => T | undefined): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const ended = this.#closed;
      const found = look();
      if (found !== undefined) {
        return found;
      }
      if (ended || performance.now() > deadline) {
        throw new Error(`no ${what}\nstdout: ${this.lines.slice(-5).join('\n')}\nstderr: ${this.stderr}`);
      }
      await sleep(5);
    }
  }

  line(pattern: RegExp): Promise<string> {
    return this.until(`line like ${pattern}`, () => this.lines.find((line) => pattern.test(line)));
  }

  /** The events of one kind so far, with `--json`. */
  events<T extends { event: string }>(kind: T['event']): T[] {
    return this.lines.map((line) => JSON.parse(line) as T).filter(({ event }) => event === kind);
  }

  event<T extends { event: string }>(kind: T['event'], index = 0): Promise<T> {
    return this.until(`event ${kind} ${index}`, () => this.events<T>(kind)[index]);
  }

  connection(index = 0): Promise<ConnectionEvent> {
    return this.event<ConnectionEvent>('connection', index);
  }

  /** Waits until the process has ended and all its output was read. Gives the exit status, null for a signal. */
  async ended(): Promise<number | null> {
    await this.until('end', () => this.#closed || undefined);
    return this.child.exitCode;
  }

  /** Asks it to stop when it has nothing left to do. */
  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return this.ended();
  }
}

export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}
