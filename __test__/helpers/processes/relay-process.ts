// Runs a relay in a separate process, so that tests can trace it, limit it, stop it or run it as another user.
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
  /** The port of another origin than the peer. */
  origin?: number;
  /** Variables added to the environment. */
  env?: Record<string, string>;
  /** Options of each relay. They must be representable in JSON. */
  relay?: RelayOptions;
}

/** The outcome of one relay in the process. */
export interface Ended extends Traffic {
  code: string | null;
  side: string | null;
  syscall: string | null;
}

/** A process that relays between connections of a raw peer. */
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

  /** `command` is a prefix that runs the process under another program: a tracer, a limit, another user. */
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

  /** Makes a connection through the relay and returns its two outer ends. */
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
    return this.#query('stats');
  }

  /** The outcomes of its relays so far, in order. */
  endings(): Promise<Ended[]> {
    return this.#query('endings');
  }

  /** The clock of the process, in milliseconds since 1970. */
  date(): Promise<number> {
    return this.#query('date');
  }

  /** The open descriptors of a child that the process starts for this query. */
  inherited(): Promise<string[]> {
    return this.#query('inherited');
  }

  async #query<T>(query: string): Promise<T> {
    this.#child.stdin.write(`${query}\n`);
    const line: IteratorResult<string, unknown> = await within(
      30_000,
      `the relay reports its ${query}`,
      this.#lines.next(),
    );
    return JSON.parse(String(line.value)) as T;
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(name);
  }

  /** The number of open descriptors of the process. */
  descriptors(): number {
    return readdirSync(`/proc/${this.#child.pid}/fd`).length;
  }

  /** Limits descriptors from now on. A limit at start would fail, because Node opens many files at once then. */
  limitDescriptors(most: number): void {
    execFileSync('prlimit', ['--pid', String(this.#child.pid), `--nofile=${most}`]);
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    if (this.#child.exitCode === null) await within(30_000, 'the relay ends', once(this.#child, 'exit'));
  }
}
