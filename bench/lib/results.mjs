import { renameSync, writeFileSync } from 'node:fs';

/** Replaces the file at once, so that it is whole whenever somebody looks. */
export function saveResults(file, results) {
  writeFileSync(`${file}.new`, `${JSON.stringify(results, undefined, 2)}\n`);
  renameSync(`${file}.new`, file);
}
