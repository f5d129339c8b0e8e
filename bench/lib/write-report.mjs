// Writes the report of a run: table and charts.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chartsOf } from './charts.mjs';
import { draw } from './draw.mjs';
import { markdown } from './report.mjs';

/** Writes the table and the charts of a run into a directory; resolves with the file names. */
export async function writeReport(directory, results) {
  mkdirSync(directory, { recursive: true });
  const files = [['table.md', markdown(results)]];
  for (const { name, spec } of chartsOf(results)) files.push([`${name}.svg`, await draw(spec)]);
  return files.map(([name, text]) => {
    const file = join(directory, name);
    writeFileSync(file, text);
    return file;
  });
}
