// The load generator fdsplice-load: the origin, its files, and one run against a peer.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, StepError } from '../../scripts/lib/run.mjs';
import { Child, listeningPort } from './children.mjs';

const program = join(root, 'target/release/fdsplice-load');

/** Starts the server behind all relays; returns its address. */
export async function startOrigin() {
  const child = new Child('origin', program, ['origin', '--listen', '127.0.0.1:0']);
  return `127.0.0.1:${await listeningPort(child)}`;
}

/** Makes, checks or evicts files in the format of the load; `action` is `make`, `check` or `evict`. */
export function loadFiles(action, { directory, files, size }) {
  const args = ['files', action, '--directory', directory, '--files', `${files}`, '--size', `${size}`];
  const { error, status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (error || status !== 0) throw new StepError(error?.message ?? stderr.trim());
}

/** One run of the load against a relay, in steps between which the figures are taken. */
export class Load {
  #child;
  #seconds;

  constructor(port, args, seconds = 60) {
    this.#seconds = seconds;
    const common = ['run', '--gate', '--timeout', `${seconds}`, '--target', `127.0.0.1:${port}`];
    this.#child = new Child('load', program, [...common, ...args]);
  }

  /** Resolves when every connection is up. */
  async ready() {
    await this.#child.line(this.#seconds + 5);
  }

  /** Does the work; the connections stay open. */
  async work() {
    this.#child.process.stdin.write('go\n');
    return JSON.parse(await this.#child.line(this.#seconds + 5));
  }

  /** Closes the connections. */
  async close() {
    this.#child.process.stdin.end();
    await this.#child.ended;
  }

  async stop() {
    await this.#child.stop();
  }
}
