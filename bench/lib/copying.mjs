// The work `copies`: drives a peer that copies files, and checks the copies.
import { rmSync } from 'node:fs';
import { loadFiles } from './load.mjs';
import { writable } from './surroundings.mjs';

/** One run of a peer that copies files, with the same steps as `Load`. */
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

  /** Prepares an empty directory for the copies. */
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
    const expected = { directory: this.#directory, files: this.#count, size: this.#size };
    loadFiles('check', expected);
  }

  stop() {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
