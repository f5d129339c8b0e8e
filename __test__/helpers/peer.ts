// A raw stream peer in a separate process, for operations that Node does not offer: resets, out-of-band bytes, small
// buffers, exact ends. crates/testpeer implements its commands.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

const BINARY = fileURLToPath(new URL('../../target/debug/fdsplice-testpeer', import.meta.url));

/** The number of a connection inside the peer. */
export type Conn = number;

export type Address = { host?: string; port: number } | { path: string };

export interface Tuning {
  rcvbuf?: number;
  sndbuf?: number;
  nodelay?: boolean;
}

/** Size of each call, and the longest random pause before each call. */
export interface Pace {
  chunk?: number | { min: number; max: number };
  pauseMs?: number;
}

export interface Digest {
  bytes: number;
  sha256: string;
}

export interface Ending extends Digest {
  /** `eof`, `reset`, or the name of another error. */
  end: string;
}

/** A failed command: `code` as in Node, and the bytes done before the failure if they are known. */
export class PeerError extends Error {
  readonly code: string;
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;

  constructor(op: string, { error = 'no reason given', bytes, sha256 }: Fields) {
    super(`${op}: ${error}`);
    this.code = error;
    this.bytes = bytes;
    this.sha256 = sha256;
  }
}

interface Fields {
  error?: string;
  bytes?: number;
  sha256?: string;
}

interface Answer extends Fields {
  id: number;
  ok?: true;
}

interface Pending {
  op: string;
  resolve: (fields: Fields) => void;
  reject: (error: Error) => void;
}

/** A running peer and the client of its line protocol. */
export class Peer {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #pending = new Map<number, Pending>();
  #last = 0;
  #ended = false;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#process = child;
    createInterface({ input: child.stdout }).on('line', (line) => this.#settle(JSON.parse(line) as Answer));
    child.stdin.once('error', (error) => this.#fail(error));
    child.once('error', (error) => this.#fail(error));
    child.once('close', (code, signal) =>
      this.#fail(new Error(`the peer ended: ${signal ?? `status ${code}`}`)),
    );
  }

  /** Starts a peer that ends with the test. */
  static start(t: ExecutionContext): Peer {
    if (!existsSync(BINARY)) {
      throw new Error(`${BINARY} is missing: run \`cargo build -p fdsplice-testpeer\` first`);
    }
    const child = spawn(BINARY, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    return new Peer(child);
  }

  /** Stops and continues the whole peer, with all its connections. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process.kill(name);
  }

  /** `backlog` is the length of the accept queue. The kernel lets one connection wait even when it is 0. */
  listen(
    options: (Address | { port: 0 }) & { backlog?: number; tuning?: Tuning },
  ): Promise<{ listener: number; port: number }> {
    return this.#run('listen', options);
  }

  accept(listener: number, tuning: Tuning = {}): Promise<{ conn: Conn }> {
    return this.#run('accept', { listener, tuning });
  }

  closeListener(listener: number): Promise<void> {
    return this.#run('closeListener', { listener });
  }

  connect(options: Address & { tuning?: Tuning }): Promise<{ conn: Conn; localPort: number | null }> {
    return this.#run('connect', options);
  }

  /** Sends the next `bytes` bytes of the pseudo-random stream that `seed` determines. */
  write(conn: Conn, bytes: number, seed: number, pace: Pace = {}): Promise<Digest> {
    return this.#run('write', { conn, bytes, seed, pace });
  }

  writeText(conn: Conn, text: string): Promise<Digest> {
    return this.#run('writeHex', { conn, data: Buffer.from(text).toString('hex') });
  }

  /** Sends one out-of-band byte, after the writes queued before it. */
  oob(conn: Conn, byte: number): Promise<Digest> {
    return this.#run('oob', { conn, byte });
  }

  /** `write` and `both` wait for the writes queued before them. */
  shutdown(conn: Conn, direction: 'read' | 'write' | 'both' = 'write'): Promise<void> {
    return this.#run('shutdown', { conn, how: direction });
  }

  /** Reads exactly `bytes` bytes. An earlier end of input rejects with `EOF`. */
  read(conn: Conn, bytes: number, pace: Pace = {}): Promise<Digest> {
    return this.#run('read', { conn, bytes, pace });
  }

  /** Reads exactly `bytes` bytes (at most 64) and returns them as text. */
  async readText(conn: Conn, bytes: number): Promise<string> {
    const { data } = await this.#run<Digest & { data: string }>('read', { conn, bytes, pace: {} });
    return Buffer.from(data, 'hex').toString();
  }

  readToEnd(conn: Conn, pace: Pace = {}): Promise<Ending> {
    return this.#run('readToEnd', { conn, pace });
  }

  /** Keeps the reader idle for `ms` milliseconds, after the reads queued before. */
  pause(conn: Conn, ms: number): Promise<void> {
    return this.#run('pause', { conn, ms });
  }

  setRcvBuf(conn: Conn, bytes: number): Promise<void> {
    return this.#run('setRcvBuf', { conn, bytes });
  }

  /** Bytes sent and received on the connection so far. */
  counts(conn: Conn): Promise<{ sent: number; received: number }> {
    return this.#run('counts', { conn });
  }

  /** Closes at once with a reset, regardless of pending operations. */
  reset(conn: Conn): Promise<void> {
    return this.#run('reset', { conn });
  }

  /** Closes at once without a reset, regardless of pending operations. */
  close(conn: Conn): Promise<void> {
    return this.#run('close', { conn });
  }

  /** The SHA-256 of the first `bytes` bytes of the stream of `seed`. */
  async hash(seed: number, bytes: number): Promise<string> {
    const { sha256 } = await this.#run<Digest>('hash', { seed, bytes });
    return sha256;
  }

  #run<T>(op: string, fields: object): Promise<T> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(new Error(`${op}: the peer has ended`));
        return;
      }
      this.#pending.set(id, { op, resolve: (fields) => resolve(fields as T), reject });
      this.#process.stdin.write(`${JSON.stringify({ id, op, ...fields })}\n`);
    });
  }

  #settle({ id, ok, ...fields }: Answer): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) {
      throw new Error(`an answer to no command: ${id}`);
    }
    this.#pending.delete(id);
    if (ok === true) {
      pending.resolve(fields);
    } else {
      pending.reject(new PeerError(pending.op, fields));
    }
  }

  #fail(error: Error): void {
    this.#ended = true;
    for (const { reject } of this.#pending.values()) {
      reject(error);
    }
    this.#pending.clear();
  }
}
