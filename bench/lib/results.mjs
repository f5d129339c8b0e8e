import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { StepError } from '../../scripts/lib/run.mjs';

/** Replaces the file at once, so that it is whole whenever somebody looks. */
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

/** Refuses to put figures of two machines, or of two versions of a relay, into one table. */
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
