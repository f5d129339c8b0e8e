// A FUSE file system whose answers can be withheld, so that system calls on its files hang. The server is
// helpers/processes/fuse-server.py.
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { until, within } from './wait.js';

/** A request of the kernel to the file system. */
export type Operation = 'lookup' | 'getattr' | 'open' | 'read' | 'write' | 'flush';

const SERVER = fileURLToPath(new URL('processes/fuse-server.py', import.meta.url));

/** Starts the server; `line` is its first line. */
async function start(): Promise<{ server: ChildProcessWithoutNullStreams; line: string; folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'fdsplice-fuse-'));
  const server = spawn('python3', [SERVER, folder]);
  let refused = '';
  server.stderr.on('data', (chunk: Buffer) => (refused += chunk.toString()));
  const lines = createInterface(server.stdout);
  const first = once(lines, 'line').then(([line]) => line as string);
  const line = await Promise.race([first, once(server, 'close').then(() => refused.trim())]);
  return { server, line, folder };
}

export class Fuse {
  readonly #server: ChildProcessWithoutNullStreams;
  readonly #folder: string;
  #held = 0;
  #refused = 0;
  #files = 0;
  #answers = 0;

  private constructor(server: ChildProcessWithoutNullStreams, folder: string) {
    this.#server = server;
    this.#folder = folder;
    createInterface(server.stdout).on('line', (line) => {
      const { held, refused } = JSON.parse(line) as { held: number; refused: number };
      this.#held = held;
      this.#refused = refused;
      this.#answers += 1;
    });
  }

  /** Mounts the file system for one test. At the end of the test every call on it fails that still hangs. */
  static async start(t: ExecutionContext): Promise<Fuse> {
    const { server, line, folder } = await start();
    const { mounted } = JSON.parse(line) as { mounted: string };
    t.teardown(async () => {
      const closed = once(server, 'close');
      server.kill('SIGKILL');
      await closed;
      rmdirSync(folder);
    });
    return new Fuse(server, mounted);
  }

  /** The path of a new file of `size` bytes. */
  file(size: number): string {
    return join(this.#folder, `${size}-${(this.#files += 1)}`);
  }

  /** The bytes of each file. */
  static content(size: number): Buffer {
    return Buffer.from(Array.from({ length: size }, (_, position) => Math.floor(position / 251) % 256));
  }

  async #command(line: string): Promise<void> {
    const before = this.#answers;
    this.#server.stdin.write(`${line}\n`);
    await until(
      `an answer to ${line}`,
      () => this.#answers,
      (answers) => answers > before,
    );
  }

  /** Withholds the answers to an operation; for reads and writes, from the position `from`. */
  hang(operation: Operation, from = 0): Promise<void> {
    return this.#command(`hang ${operation} ${from}`);
  }

  /** Answers an operation with `EAGAIN`; for reads and writes, from the position `from`. */
  again(operation: Operation, from = 0): Promise<void> {
    return this.#command(`again ${operation} ${from}`);
  }

  /** How many requests were answered with `EAGAIN`. */
  async refused(): Promise<number> {
    await this.#command('count');
    return this.#refused;
  }

  /** Resolves when `count` requests wait for an answer. */
  async hasHeld(count = 1): Promise<void> {
    await until(
      `${count} calls hang`,
      () => this.#held,
      (held) => held >= count,
    );
  }

  /** Answers everything that waits, and everything later. */
  release(): Promise<void> {
    return this.#command('release');
  }
}

/** Why this machine cannot mount the file system; `undefined` if it can. */
async function whyNot(): Promise<string | undefined> {
  if (spawnSync('python3', ['--version']).status !== 0) return 'python3 is not installed';
  const { server, line, folder } = await start();
  const closed = server.exitCode === null ? once(server, 'close') : undefined;
  server.kill('SIGKILL');
  await closed;
  rmdirSync(folder);
  return line.startsWith('{') ? undefined : line;
}

const reason = await within(20_000, 'an answer of the FUSE server', whyNot());

/** A serial test with a mounted FUSE file system. Where it cannot be mounted, it is skipped with the reason in its title. */
export function fuseTest(title: string, body: (t: ExecutionContext, fuse: Fuse) => Promise<void>): void {
  const run = async (t: ExecutionContext) => body(t, await Fuse.start(t));
  if (reason === undefined) test.serial(title, run);
  else test.serial.skip(`${title} (no FUSE file system: ${reason})`, run);
}
