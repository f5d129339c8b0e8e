// The tools of the install test that are not dependencies of the package.
import { cpSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { isInstalled } from '../lib/prepare.mjs';
import { root } from '../lib/run.mjs';
import { output } from './process.mjs';

/** Installs the tools under target/, unless they are there, and resolves with their paths and a `require` for them. */
export async function tools() {
  const folder = join(root, 'target/install-tools');
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
    cpSync(join(root, 'scripts/install', name), join(folder, name));
  }
  if (!isInstalled(folder)) {
    await output('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'], {
      cwd: folder,
    });
  }
  const inside = (path) => join(folder, 'node_modules', path);
  return {
    attw: inside('@arethetypeswrong/cli/dist/index.js'),
    jest: inside('jest/bin/jest.js'),
    mocha: inside('mocha/bin/mocha.js'),
    pnpm: inside('pnpm/bin/pnpm.cjs'),
    postject: inside('postject/dist/cli.js'),
    publint: inside('publint/src/cli.js'),
    verdaccio: inside('verdaccio/bin/verdaccio'),
    vitest: inside('vitest/vitest.mjs'),
    path: inside,
    require: createRequire(join(folder, 'package.json')),
  };
}
