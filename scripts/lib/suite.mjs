/**
 * Checks that run one after the other, reported line by line in a form that `npm test` counts. A check fails by throwing;
 * what it returns is printed beside its name.
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

export function assertSame(found, expected, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  assert(a === b, `${what}: found ${a}, expected ${b}`);
}
