// Counts tests from the output of a test runner.
import { stripVTControlCharacters } from 'node:util';

/**
 * The counts of one test runner. `problems` are failures that belong to no single test. `details` is the runner's output
 * about failures, which is printed again at the end of a long log.
 */
class Totals {
  /** A title with one of these texts belongs to a skipped test that needs no missing tool. */
  excuses = ['npm run test:full'];
  passed = 0;
  skipped = [];
  failures = [];
  problems = [];
  details = [];

  get failed() {
    return this.failures.length;
  }

  /** Tests that were skipped because a tool is missing. */
  get missing() {
    return this.skipped.filter((name) => !this.excuses.some((excuse) => name.includes(excuse)));
  }

  constructor(runner) {
    this.runner = runner;
  }

  /** Ends the count. The exit status of the runner has to agree with its output. */
  finish({ ok, status }) {
    if (!ok && this.failed + this.problems.length === 0)
      this.problems.push(`${this.runner} ended with ${status}`);
    if (ok && this.passed + this.failed === 0) this.problems.push(`${this.runner} ran no test`);
    return this;
  }
}

const cargoResult = /^test result: \w+\. (\d+) passed; (\d+) failed; \d+ ignored;/;
const cargoFailure = /^ {4}(\S.*)$/;
const cargoIgnored = /^test (.+) \.\.\. ignored(?:, (.+))?$/;

/** Counts the stdout of `cargo test`: a "test result:" line for each test binary, and for the doc tests of each crate. */
export class CargoTotals extends Totals {
  #section = [];
  #inFailures = false;

  constructor() {
    super('cargo test');
  }

  add(rawLine) {
    const line = stripVTControlCharacters(rawLine);
    const result = cargoResult.exec(line);
    if (result) this.#close(Number(result[1]), Number(result[2]));
    // A binary prints "failures:" twice: before the output of the failed tests, and before the list of their names.
    if (line === 'failures:') this.#inFailures = true;
    if (this.#inFailures) this.#section.push(line);
    const ignored = cargoIgnored.exec(line);
    if (ignored) this.skipped.push(`${ignored[1]}: ${ignored[2] ?? 'ignored, no reason given'}`);
  }

  #close(passed, failed) {
    const names = this.#section.slice(this.#section.lastIndexOf('failures:') + 1);
    const named = names.flatMap((line) => cargoFailure.exec(line)?.[1] ?? []);
    this.passed += passed;
    for (let at = 0; at < failed; at += 1) this.failures.push(named[at] ?? 'a test without a name');
    this.details.push(...this.#section);
    this.#section = [];
    this.#inFailures = false;
  }
}

const avaSummary = /^ {2}(\d+) tests? passed$/;

/**
 * Counts ava's default report on stdout. Unlike its TAP report, it names the tests that were still running when a file
 * timed out. ava prints no reason for a skipped test, so by convention the title contains it. Specs run in several
 * suites, so each name begins with the suite.
 */
export class AvaTotals extends Totals {
  #announced;
  #inDetails = false;

  constructor(name, { hasCore }) {
    super(name);
    if (!hasCore) this.excuses.push('needs the native core');
  }

  add(rawLine) {
    const line = stripVTControlCharacters(rawLine);
    const named = (mark) => `${this.runner}: ${line.slice(mark.length)}`;
    if (line.startsWith('  ✔ ')) this.passed += 1;
    else if (line.startsWith('  ✘ [fail]: ')) this.failures.push(named('  ✘ [fail]: '));
    else if (line.startsWith('  - [skip] ')) this.skipped.push(named('  - [skip] '));
    else if (line.startsWith('  ◌ ')) this.problems.push(`did not finish: ${named('  ◌ ')}`);
    else if (/^ {2}(✘|Uncaught exception|Unhandled rejection) /.test(line)) this.problems.push(named('  '));
    this.#announced = avaSummary.exec(line)?.[1] ?? this.#announced;
    this.#inDetails ||= /^ {2}─+$/.test(line);
    if (this.#inDetails) this.details.push(line);
  }

  finish(ending) {
    // ava prints the number of passed tests only when no test failed.
    if (ending.ok && Number(this.#announced) !== this.passed)
      this.problems.push(
        `${this.runner}: ava reports ${this.#announced} passed tests, but lists ${this.passed}`,
      );
    return super.finish(ending);
  }
}

const suiteSummary = /^(\S+): (\d+) passed, (\d+) failed$/;

/** Counts the stdout of a suite that uses `scripts/lib/suite.mjs`. */
export class SuiteTotals extends Totals {
  #announced;

  add(line) {
    if (line.startsWith('✔ ')) this.passed += 1;
    else if (line.startsWith('✘ ')) this.failures.push(line.slice('✘ '.length));
    this.#announced = suiteSummary.test(line) ? line : this.#announced;
  }

  finish(ending) {
    const counted = `${this.runner}: ${this.passed} passed, ${this.failed} failed`;
    if (this.#announced !== counted) this.problems.push(`${counted}, but it reports ${this.#announced}`);
    return super.finish(ending);
  }
}
