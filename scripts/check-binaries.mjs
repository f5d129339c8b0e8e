// node scripts/check-binaries.mjs [<platform> …]: the addons in npm/, or those of these platforms.
import { existsSync } from 'node:fs';
import { check } from './lib/check-binary.mjs';
import { runMain, StepError } from './lib/run.mjs';
import { target, targets } from './lib/targets.mjs';

await runMain(async () => {
  const names = process.argv.slice(2);
  const chosen = names.length > 0 ? names.map(target) : targets.filter(({ file }) => existsSync(file));
  if (chosen.length === 0) throw new StepError('no addon in npm/: npm run build:target makes them');
  for (const { platform } of chosen) check(platform);
});
