// How long the parts of a test run take, so that growth is seen.
import { readFileSync } from 'node:fs';

/** The durations of gates that `.ci/run` has measured come first: FDSPLICE_DURATIONS names its file of them. */
export class Durations {
  #lines = [];

  /** Runs a part and records its duration. */
  async of(name, run) {
    const since = performance.now();
    try {
      return await run();
    } finally {
      this.#lines.push(line(Math.round((performance.now() - since) / 1000), name));
    }
  }

  print() {
    const { FDSPLICE_DURATIONS: file } = process.env;
    const gates = file === undefined ? [] : readFileSync(file, 'utf8').trimEnd().split('\n');
    console.log('');
    for (const each of [...gates, ...this.#lines]) console.log(each);
  }
}

function line(seconds, name) {
  return `${String(seconds).padStart(5)} s  ${name}`;
}
