import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';
import type { RelayOptions, Stats, Traffic } from 'fdsplice';

import type { Conn, Peer } from '../peer.js';
import { within } from '../wait.js';

const SCRIPT = fileURLToPath(new URL('./relay-process.mjs', import.meta.url));

export interface RelayProcessOptions {
  /** The port of an origin that is not the peer. */
  origin?: number;
  /** Added to the environment. */
  env?: Record<string, string>;
  /** What each relay is told; what JSON can write. */
  relay?: RelayOptions;
}

/** How one of its relays ended. */
export interface Ended extends Traffic {
  code: string | null;
  side: string | null;
  syscall: string | null;
}

/** A relay in a process of its own, between a raw peer's connections. */
export class RelayProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #peer: Peer;
  readonly #listener: number;
  readonly #port: number;

  private constructor(
    child: ChildProcessByStdio<Writable, Readable, null>,
    lines: AsyncIterator<string>,
    peer: Peer,
    listener: number,
    port: number,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.#peer = peer;
    this.#listener = listener;
    this.#port = port;
  }

  /** `command` runs the relay under another program: a tracer, a limit, another user. */
  static async start(
    t: ExecutionContext,
    peer: Peer,
    command: string[] = [],
    options: RelayProcessOptions = {},
  ): Promise<RelayProcess> {
    const { listener, port } = await peer.listen({ port: 0, backlog: 1024 });
    const { env, relay = {}, origin = port } = options;
    const own = [SCRIPT, String(origin), JSON.stringify(relay)];
    const [program = process.execPath, ...args] = [...command, process.execPath, ...own];
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    t.teardown(() => child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await within(30_000, 'the relay listens', lines.next());
    return new RelayProcess(child, lines, peer, listener, Number(first.value));
  }

  /** A connection through the relay: the client's end and the origin's. */
  async connect(): Promise<{ client: Conn; origin: Conn }> {
    const { conn: client } = await this.#peer.connect({ port: this.#port });
    const { conn: origin } = await this.#peer.accept(this.#listener);
    return { client, origin };
  }

  /** The port it listens on. */
  get port(): number {
    return this.#port;
  }

  stats(): Promise<Stats> {
    return this.#ask('stats');
  }

  /** How its relays have ended so far, in that order. */
  endings(): Promise<Ended[]> {
    return this.#ask('endings');
  }

  /** What the date is there, in milliseconds since 1970. */
  date(): Promise<number> {
    return this.#ask('date');
  }

  /** Every open descriptor of a child that it starts for the question. */
  inherited(): Promise<string[]> {
    return this.#ask('inherited');
  }

  async #ask<T>(question: string): Promise<T> {
    this.#child.stdin.write(`${question}\n`);
    const line: IteratorResult<string, unknown> = await within(
      30_000,
      `the relay tells its ${question}`,
      this.#lines.next(),
    );
    return JSON.parse(String(line.value)) as T;
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(name);
  }

  /** Open descriptors of the process. */
  descriptors(): number {
    return readdirSync(`/proc/${this.#child.pid}/fd`).length;
  }

  /** Takes effect for what it opens from here on; Node itself opens many files at once when it starts. */
  limitDescriptors(most: number): void {
    execFileSync('prlimit', ['--pid', String(this.#child.pid), `--nofile=${most}`]);
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    if (this.#child.exitCode === null) await within(30_000, 'the relay ends', once(this.#child, 'exit'));
  }
}
