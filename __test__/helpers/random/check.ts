// Runs many random schedules at once. It prints the seed, and shrinks a failing schedule to a small one.
import { inspect } from 'node:util';

import type { ExecutionContext } from 'ava';
import fc from 'fast-check';

import { within } from '../wait.js';

const FULL = process.env['FDSPLICE_FULL'] === '1';
/** The time limit of one schedule. Only a hanging transfer exceeds it. */
const LIMIT_MS = 30_000;
const LANES = 16;
/** The time limit of all schedules of a test, including the shrinking of a failing one. */
export const MOST_MS = FULL ? 1_200_000 : 240_000;

export interface Plan<T> {
  /** The number of schedules in `npm test`. FDSPLICE_FULL=1 runs ten times as many. */
  few: number;
  schedule: fc.Arbitrary<T>;
  /** Schedules that failed once. They run before any new one. */
  regressions: T[];
  run: (schedule: T) => Promise<void>;
}

/** Runs a plan. `FDSPLICE_SEED` repeats an earlier run. */
export async function check<T>(t: ExecutionContext, plan: Plan<T>): Promise<void> {
  const seed = Number(process.env['FDSPLICE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  const runs = FULL ? plan.few * 10 : plan.few;
  t.log(`${runs} schedules, FDSPLICE_SEED=${seed}`);
  for (const regression of plan.regressions)
    await within(LIMIT_MS, 'a regression ends', plan.run(regression));
  let hasFailed = false;
  const property = fc.asyncProperty(plan.schedule, async (schedule) => {
    try {
      await within(LIMIT_MS, 'the schedule ends', plan.run(schedule));
    } catch (error) {
      // Printed at once: shrinking may last until the test is cut off, and `t.log` output appears only at its end.
      if (!hasFailed)
        console.error(`FDSPLICE_SEED=${seed}: ${inspect(schedule, { depth: 9 })}\n${inspect(error)}`);
      hasFailed = true;
      throw error;
    }
  });
  const lanes = Array.from({ length: LANES }, (_, lane) =>
    fc.check(property, {
      seed: seed + lane,
      numRuns: Math.ceil(runs / LANES),
      interruptAfterTimeLimit: MOST_MS,
    }),
  );
  let done = plan.regressions.length;
  for (const details of await Promise.all(lanes)) {
    done += details.numRuns;
    if (!details.failed) continue;
    const why = inspect(details.errorInstance);
    t.fail(`FDSPLICE_SEED=${seed}\n${fc.defaultReportMessage(details) ?? ''}\n${why}`);
  }
  t.true(done >= runs, `only ${done} of ${runs} schedules within ${MOST_MS} ms`);
}
