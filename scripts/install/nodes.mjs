import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from '../lib/run.mjs';
import { output } from './process.mjs';

/** One of each supported line, and one that is too old. Exact, so that a run can be repeated. */
export const versions = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0', 26: '26.10.0' };
export const tooOld = '18.20.8';

/** The official binary of this version, from the package that carries it; kept beside cargo's builds. */
export async function node(version) {
  const name = `node-linux-${process.arch}`;
  const home = join(root, 'target/node', version);
  const binary = join(home, 'node_modules', name, 'bin/node');
  if (!existsSync(binary)) {
    const options = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', home];
    await output('npm', ['install', ...options, `${name}@${version}`]);
  }
  return binary;
}

/** A folder for PATH that holds this Node, and npm and pnpm, which it runs: no compiler, no shell, nothing. */
export async function toolbox(folder, binary, pnpm) {
  mkdirSync(folder, { recursive: true });
  symlinkSync(binary, join(folder, 'node'));
  symlinkSync(await realpath(await npmCli()), join(folder, 'npm'));
  symlinkSync(pnpm, join(folder, 'pnpm'));
  return folder;
}

async function npmCli() {
  const globals = (await output('npm', ['root', '--global'])).trim();
  return join(globals, 'npm/bin/npm-cli.js');
}
