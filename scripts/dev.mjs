// npm run dev -- <spec> [ava arguments]: builds TypeScript and the addon in debug mode, and runs one spec with them.
//   <spec>   a path, the name of a spec (half-close) or of a folder (relay)
// The release addon at the root stays as it is. lib/binding.d.ts is not regenerated: that takes npm run build:native.
import { join } from 'node:path';
import { install, preparePeer, prepareTypeScript } from './lib/prepare.mjs';
import { root, run, runMain, StepError } from './lib/run.mjs';
import { findSpecs } from './lib/specs.mjs';
import { debugAddon } from './lib/debug-addon.mjs';

await runMain(async () => {
  const [given, ...options] = process.argv.slice(2);
  if (given === undefined) throw new StepError('which spec? npm run dev -- <spec> [ava arguments]');
  const specs = findSpecs(given);
  await install();
  const [debug] = await Promise.all([build(), prepareTypeScript()]);
  const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs');
  const env = { ...process.env, ...debug };
  const { ok } = await run(process.execPath, [ava, ...specs, ...options], { env });
  if (!ok) process.exitCode = 1;
});

async function build() {
  const debug = await debugAddon();
  await preparePeer();
  return debug;
}
