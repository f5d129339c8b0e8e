// npm run bench:charts -- RESULTS.json [--to DIR]: writes the Markdown table and the charts of a run again.
import { parseArgs } from 'node:util';
import { dirname, join, parse } from 'node:path';
import { runMain, StepError } from '../scripts/lib/run.mjs';
import { loadResults } from './lib/results.mjs';
import { writeReport } from './lib/write-report.mjs';

await runMain(async () => {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { to: { type: 'string' } } });
  const [file] = positionals;
  if (file === undefined) throw new StepError('usage: npm run bench:charts -- RESULTS.json [--to DIR]');
  const directory = values.to ?? join(dirname(file), parse(file).name);
  for (const written of await writeReport(directory, loadResults(file))) console.log(written);
});
