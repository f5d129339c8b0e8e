// The Node versions that the tests use beside the Node they run on.
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from '../lib/run.mjs';
import { output } from './process.mjs';

/** One version of each supported line, and one that is too old. Exact versions make a run repeatable. */
export const versions = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0', 26: '26.10.0' };
export const tooOld = '18.20.8';

/** The path of the official binary of a version. It comes from an npm package and is kept under target/. */
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

/** A folder for PATH with this Node, npm and pnpm, and nothing else: no compiler, no shell. */
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
