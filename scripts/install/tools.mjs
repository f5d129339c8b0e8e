// The tools of the install test that are not dependencies of the package.
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../lib/run.mjs';
import { output } from './process.mjs';

/** Installs the tools under target/ and resolves with their paths. */
export async function tools() {
  const folder = join(root, 'target/install-tools');
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
    cpSync(join(root, 'scripts/install', name), join(folder, name));
  }
  await output('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'], {
    cwd: folder,
  });
  const inside = (path) => join(folder, 'node_modules', path);
  return {
    attw: inside('@arethetypeswrong/cli/dist/index.js'),
    pnpm: inside('pnpm/bin/pnpm.cjs'),
    publint: inside('publint/src/cli.js'),
    verdaccio: inside('verdaccio/bin/verdaccio'),
  };
}
