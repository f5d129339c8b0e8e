// node scripts/release-notes.mjs <version>: prints the section of CHANGELOG.md about that version.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, runMain, StepError } from './lib/run.mjs';

await runMain(async () => {
  const [version = ''] = process.argv.slice(2);
  const sections = readFileSync(join(root, 'CHANGELOG.md'), 'utf8').split(/^## /m).slice(1);
  const section = sections.find((text) => text.split(/\s/, 1)[0] === version);
  if (section === undefined) throw new StepError(`CHANGELOG.md has no section "## ${version}"`);
  console.log(section.slice(section.indexOf('\n')).trim());
});
