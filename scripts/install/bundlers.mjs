// Bundlers that include the package.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { assert } from '../lib/suite.mjs';

/** Each bundler with the name of its output and a function that writes it. */
const all = {
  'esbuild to CommonJS': { file: 'bundle.cjs', write: esbuild('cjs') },
  'esbuild to an ES module': { file: 'bundle.mjs', write: esbuild('esm') },
  'Rollup to CommonJS': { file: 'bundle.cjs', write: rollup('cjs') },
  'Rollup to an ES module': { file: 'bundle.mjs', write: rollup('es'), isSlow: true },
  webpack: { file: 'bundle.cjs', write: webpack, isSlow: true },
  // It writes an ES module for a program that is one.
  ncc: { file: 'bundle.cjs', write: ncc, program: 'bundled.cjs' },
};
export const bundlers = Object.entries(all).map(([name, { isSlow = false }]) => ({ name, isSlow }));

/** Writes the bundle of a consumer's program into a folder of its own, and returns its path. */
export async function bundle(name, { consumer, folder, tools }) {
  const { file, write, program = 'bundled.mjs' } = all[name];
  mkdirSync(folder, { recursive: true });
  const path = join(folder, file);
  await write(tools.require, join(consumer.folder, program), path);
  return path;
}

/** Puts the platform packages of an installation beside a bundle. */
export function putBeside(folder, consumer) {
  cpSync(join(consumer.folder, 'node_modules/@fdsplice'), join(folder, 'node_modules/@fdsplice'), {
    recursive: true,
  });
}

function esbuild(format) {
  return async (load, program, outfile) => {
    const options = { entryPoints: [program], bundle: true, platform: 'node', format, outfile };
    const { warnings } = await load('esbuild').build({ ...options, logLevel: 'silent' });
    assert(warnings.length === 0, JSON.stringify(warnings));
  };
}

function rollup(format) {
  return async (load, program, file) => {
    const plugins = [load('@rollup/plugin-node-resolve').nodeResolve(), load('@rollup/plugin-commonjs')()];
    const onwarn = (warning) => assert(false, warning.message);
    const made = await load('rollup').rollup({ input: program, plugins, onwarn, external: /^node:/ });
    await made.write({ file, format });
    await made.close();
  };
}

async function webpack(load, program, file) {
  const [path, filename] = [join(file, '..'), file.split('/').at(-1)];
  const options = { mode: 'production', target: 'node', entry: program, output: { path, filename } };
  const stats = await promisify(load('webpack'))(options);
  assert(!stats.hasErrors() && !stats.hasWarnings(), stats.toString());
}

async function ncc(load, program, file) {
  const { code } = await load('@vercel/ncc')(program, { cache: false, quiet: true });
  writeFileSync(file, code);
}
