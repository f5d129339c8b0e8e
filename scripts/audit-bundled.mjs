// node scripts/audit-bundled.mjs: fails when there is an advisory of any severity about an npm package that the published
// command line contains. npm counts these packages as devDependencies, so `npm audit --omit=dev` leaves them out.
import { spawnSync } from 'node:child_process';
import { bundledPackages } from './lib/bundle-cli.mjs';
import { root, runMain, StepError } from './lib/run.mjs';

await runMain(async () => {
  const folders = await bundledPackages();
  const { stdout } = spawnSync('npm', ['audit', '--json'], { cwd: root, encoding: 'utf8' });
  const { vulnerabilities, message } = JSON.parse(stdout);
  if (vulnerabilities === undefined) throw new StepError(`npm audit: ${message}`);
  const affected = Object.values(vulnerabilities).filter(({ nodes }) =>
    nodes.some((node) => folders.some((folder) => folder.endsWith(`/${node}`))),
  );
  if (affected.length > 0) {
    throw new StepError(affected.map(({ name, severity }) => `${name}: ${severity}`).join('\n'));
  }
  console.log(`no advisories about the ${folders.length} bundled packages`);
});
