// A minimal test runner for suites that are scripts.

/**
 * Checks that run one after the other. Each is reported on one line, in a form that `npm test` counts. A check fails by
 * throwing; its return value is printed beside its name.
 */
export class Suite {
  passed = 0;
  failed = 0;

  constructor(name) {
    this.name = name;
  }

  async check(name, run) {
    try {
      const detail = await run();
      this.passed += 1;
      console.log(`✔ ${name}${detail === undefined ? '' : `: ${detail}`}`);
      return true;
    } catch (error) {
      this.failed += 1;
      console.log(`✘ ${name}\n${String(error?.message ?? error).replace(/^/gm, '    ')}`);
      return false;
    }
  }

  report() {
    console.log(`${this.name}: ${this.passed} passed, ${this.failed} failed`);
    if (this.failed > 0) process.exitCode = 1;
  }
}

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

export function assertSame(found, expected, label) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  assert(a === b, `${label}: found ${a}, expected ${b}`);
}
