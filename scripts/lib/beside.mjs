// Runs suites beside each other.

/** Suites at a time, by the company that they bear. On two cores, more would only wait for each other. */
const AT_A_TIME = { any: 2, quiet: 2, none: 1 };

/**
 * Runs suites beside others that bear the same `company`: `any` may use every core, `quiet` use one core each, and `none`
 * run alone. The output of each is printed as a whole when it has ended. Resolves with their totals.
 */
export async function runBeside(runs, durations) {
  const results = [];
  for (const [company, most] of Object.entries(AT_A_TIME)) {
    const waiting = runs.filter((each) => each.company === company).values();
    const work = async () => {
      for (const { name, run } of waiting) {
        console.log(`started: ${name}`);
        const lines = [];
        results.push(await durations.of(name, () => run((text) => lines.push(text))));
        console.log(['', name, ...lines].join('\n'));
      }
    };
    await Promise.all(Array.from({ length: most }, work));
  }
  return results;
}
