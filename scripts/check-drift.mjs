// npm run check:drift: rebuilds the generated types and fails, with the diff, when the committed files differ. They are
// committed so that a change of the public surface shows in review.
import { prepare } from './lib/prepare.mjs';
import { mustRun, run, runMain, StepError } from './lib/run.mjs';

const generated = ['index.d.ts', 'lib/binding.d.ts'];

await runMain(async () => {
  await prepare();
  await mustRun('git', ['ls-files', '--error-unmatch', '--', ...generated]);
  const { ok } = await run('git', ['--no-pager', 'diff', '--exit-code', '--', ...generated]);
  if (!ok)
    throw new StepError(`generated types are out of date: commit ${generated.join(' and ')} as just rebuilt`);
});
