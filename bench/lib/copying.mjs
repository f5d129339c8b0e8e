import { rmSync } from 'node:fs';
import { loadFiles } from './load.mjs';
import { writable } from './surroundings.mjs';

/** One run of a peer that copies files, split where the figures are taken, as `Load` is. */
export class Copying {
  #child;
  #directory;
  #count;
  #size;

  constructor(child, { to, size }, count) {
    this.#child = child;
    this.#directory = to;
    this.#count = count;
    this.#size = size;
  }

  /** Resolves when there is an empty place for the copies. */
  ready() {
    rmSync(this.#directory, { recursive: true, force: true });
    writable(this.#directory);
  }

  async work() {
    const started = performance.now();
    this.#child.process.stdin.write(`${this.#count}\n`);
    await this.#child.line(60);
    const seconds = (performance.now() - started) / 1000;
    return { count: this.#count, bytes: this.#count * this.#size, seconds };
  }

  /** Fails unless every copy equals its original. */
  close() {
    const of = { directory: this.#directory, files: this.#count, size: this.#size };
    loadFiles('check', of);
  }

  stop() {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
