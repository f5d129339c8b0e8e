// Finds specs by the name, the folder or the path that a person gives.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { root, StepError } from './run.mjs';

const ENDING = '.spec.ts';

/** The paths of all specs, relative to the root. */
export function allSpecs() {
  return readdirSync(join(root, '__test__'), { recursive: true })
    .filter((name) => name.endsWith(ENDING))
    .map((name) => `__test__/${name}`)
    .sort();
}

/** The specs that a path, the name of a spec (`half-close`) or the name of a folder (`relay`) stands for. */
export function findSpecs(given) {
  const specs = allSpecs();
  const path = [resolve(root, given), join(root, '__test__', given)].find((each) => existsSync(each));
  const wanted = path === undefined ? undefined : relative(root, path);
  const found = specs.filter(
    (spec) => nameOf(spec) === nameOf(given) || spec === wanted || spec.startsWith(`${wanted}/`),
  );
  if (found.length > 0) return found;
  const isFile = wanted !== undefined && statSync(join(root, wanted)).isFile();
  const problem = isFile ? `${given} is not a spec` : `there is no spec or folder of specs ${given}`;
  throw new StepError(`${problem}: did you mean ${nearest(nameOf(given), specs)}?`);
}

const nameOf = (path) => basename(path, ENDING);

/** The name of a spec or folder that takes the fewest changes to reach from the given name. */
function nearest(name, specs) {
  const folders = specs.map((spec) => spec.split('/')[1]);
  const names = [...new Set([...specs.map(nameOf), ...folders])];
  const [best] = names.map((each) => [distance(name, each), each]).sort(([a], [b]) => a - b);
  return best[1];
}

/** The Levenshtein distance: insertions, deletions and replacements of one character. */
function distance(a, b) {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}
