import { stripVTControlCharacters } from 'node:util';

/**
 * What one test runner printed, counted. `problems` are failures that no single test stands for; `details` is what the
 * runner said about its failures, to be printed once more at the end of a long log.
 */
class Totals {
  /** Why a test may be left out where every tool has to be there: it says that it belongs to the full run. */
  excuses = ['npm run test:full'];
  passed = 0;
  skipped = [];
  failures = [];
  problems = [];
  details = [];

  get failed() {
    return this.failures.length;
  }

  /** Tests that were left out for lack of something. */
  get missing() {
    return this.skipped.filter((name) => !this.excuses.some((excuse) => name.includes(excuse)));
  }

  constructor(runner) {
    this.runner = runner;
  }

  /** Closes the count with how the runner itself ended, which has to agree with what it printed. */
  finish({ ok, how }) {
    if (!ok && this.failed + this.problems.length === 0)
      this.problems.push(`${this.runner} ended with ${how}`);
    if (ok && this.passed + this.failed === 0) this.problems.push(`${this.runner} ran no test`);
    return this;
  }
}

const cargoResult = /^test result: \w+\. (\d+) passed; (\d+) failed; \d+ ignored;/;
const cargoFailure = /^ {4}(\S.*)$/;
const cargoIgnored = /^test (.+) \.\.\. ignored(?:, (.+))?$/;

/** `cargo test` on stdout: one "test result:" line per test binary, and one for the doc tests of each crate. */
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
    // A binary says "failures:" twice: before what its failed tests printed, and before the list of their names.
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
 * ava's own report on stdout: unlike its TAP one, it names the tests that were still running when a file timed out. A
 * skipped test has no place for a reason, so by convention its title says it. Specs run in several ways: every name
 * says in which.
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
    // ava gives the number of passed tests only when nothing failed.
    if (ending.ok && Number(this.#announced) !== this.passed)
      this.problems.push(
        `${this.runner}: ava says ${this.#announced} tests passed, its report lists ${this.passed}`,
      );
    return super.finish(ending);
  }
}

const suiteSummary = /^(\S+): (\d+) passed, (\d+) failed$/;

/** One of our own suites (`scripts/lib/suite.mjs`). */
export class SuiteTotals extends Totals {
  #announced;

  add(line) {
    if (line.startsWith('✔ ')) this.passed += 1;
    else if (line.startsWith('✘ ')) this.failures.push(line.slice('✘ '.length));
    this.#announced = suiteSummary.test(line) ? line : this.#announced;
  }

  finish(ending) {
    const counted = `${this.runner}: ${this.passed} passed, ${this.failed} failed`;
    if (this.#announced !== counted) this.problems.push(`${counted}, but it says ${this.#announced}`);
    return super.finish(ending);
  }
}
