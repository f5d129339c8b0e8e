// The results file of a run: writing, reading, and the check before a run is resumed.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { StepError } from '../../scripts/lib/run.mjs';

/** Replaces the file atomically, so that a reader always finds a complete one. */
export function saveResults(file, results) {
  writeFileSync(`${file}.new`, `${JSON.stringify(results, undefined, 2)}\n`);
  renameSync(`${file}.new`, file);
}

export function loadResults(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new StepError(`${file}: ${error.message}`, { cause: error });
  }
}

/** Throws if the two runs differ in the machine or in the version of a relay. */
export function checkSameConditions(before, now) {
  const conditions = ({ machine, counters, peers }) => ({
    ...Object.fromEntries(
      ['processor', 'cores', 'memory', 'kernel', 'user', 'openFiles'].map((name) => [name, machine[name]]),
    ),
    ...machine.settings,
    ...Object.fromEntries(Object.entries(counters).map(([name, { available }]) => [name, available])),
    ...Object.fromEntries(
      peers.map(({ name, version, missing }) => [name, missing ? 'missing' : (version ?? 'unknown')]),
    ),
  });
  const [was, is] = [conditions(before), conditions(now)];
  for (const name of new Set([...Object.keys(was), ...Object.keys(is)])) {
    if (was[name] !== is[name]) {
      throw new StepError(`--resume: ${name} was ${was[name]} and is ${is[name]}: start anew`);
    }
  }
}

/** Throws if a resumed run is asked for another number of workers than it was started with. */
export function checkSameWorkers({ settings: { workers } }, asked) {
  if (asked !== undefined && asked !== workers) {
    throw new StepError(`--resume: --workers was ${workers ?? 'not given'} and is ${asked}: start anew`);
  }
}
