// npm run check:binaries [-- <platform> …]: checks the addons in npm/, or only those of the given platforms.
import { existsSync } from 'node:fs';
import { check } from './lib/check-binary.mjs';
import { runMain, StepError } from './lib/run.mjs';
import { target, targets } from './lib/targets.mjs';

await runMain(async () => {
  const names = process.argv.slice(2);
  const chosen = names.length > 0 ? names.map(target) : targets.filter(({ file }) => existsSync(file));
  if (chosen.length === 0) throw new StepError('no addon in npm/: npm run build:target builds them');
  for (const { platform } of chosen) check(platform);
});
