import { stripVTControlCharacters } from 'node:util';

/** What one test runner printed, counted. `problems` are failures that no single test stands for. */
class Totals {
  passed = 0;
  failed = 0;
  skipped = [];
  problems = [];

  constructor(runner) {
    this.runner = runner;
  }

  /** Closes the count with how the runner itself ended, which has to agree with what it printed. */
  finish({ ok, how }) {
    if (!ok && this.failed === 0) this.problems.push(`${this.runner} ended with ${how}`);
    if (this.passed + this.failed === 0) this.problems.push(`${this.runner} ran no test`);
    return this;
  }
}

const cargoResult = /^test result: \w+\. (\d+) passed; (\d+) failed; \d+ ignored;/;
const cargoIgnored = /^test (.+) \.\.\. ignored(?:, (.+))?$/;

/** `cargo test` on stdout: one "test result:" line per test binary, and one for the doc tests of each crate. */
export class CargoTotals extends Totals {
  constructor() {
    super('cargo test');
  }

  add(rawLine) {
    const line = stripVTControlCharacters(rawLine);
    const result = cargoResult.exec(line);
    if (result) {
      this.passed += Number(result[1]);
      this.failed += Number(result[2]);
    }
    const ignored = cargoIgnored.exec(line);
    if (ignored) this.skipped.push(`${ignored[1]}: ${ignored[2] ?? 'ignored, no reason given'}`);
  }
}

const tapTest = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO)\b.*)?$/;
const tapPlan = /^1\.\.(\d+)$/;

/** `ava --tap` on stdout. A skipped test has no place for a reason in TAP, so by convention its title says it. */
export class AvaTotals extends Totals {
  #seen = 0;
  #planned;

  constructor() {
    super('ava');
  }

  add(rawLine) {
    const line = stripVTControlCharacters(rawLine);
    const plan = tapPlan.exec(line);
    if (plan) this.#planned = Number(plan[1]);
    const test = tapTest.exec(line);
    if (!test) return;
    const [, not, title, directive] = test;
    this.#seen += 1;
    if (directive === 'SKIP') this.skipped.push(title);
    else if (not) this.failed += 1;
    else this.passed += 1;
  }

  finish(ending) {
    if (this.#planned === undefined) this.problems.push('ava did not finish its report');
    else if (this.#seen < this.#planned)
      this.problems.push(`ava announced ${this.#planned} tests and reported ${this.#seen}`);
    return super.finish(ending);
  }
}
