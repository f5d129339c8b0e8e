// Runs suites beside each other.

/** On two cores, more at a time would only wait for each other. */
const AT_A_TIME = 2;

/**
 * Runs suites, two at a time, and starts them in order. The output of each is printed as a whole when it has ended.
 * Resolves with their totals, in the same order.
 */
export async function runBeside(runs, durations) {
  const results = new Array(runs.length);
  const waiting = runs.entries();
  const work = async () => {
    for (const [index, { name, run }] of waiting) {
      console.log(`started: ${name}`);
      const lines = [];
      results[index] = await durations.of(name, () => run((text) => lines.push(text)));
      console.log(['', name, ...lines].join('\n'));
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  return results;
}
