// Finds and loads the addon of this platform, or explains why there is none.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import manifest from '../../package.json' with { type: 'json' };
import type * as binding from '../binding.js';

export type Binding = typeof binding;

/** Operating system, CPU and C library, as in the names of the platform packages. */
export const platform = [process.platform, cpu(), ...(process.platform === 'linux' ? [abi()] : [])].join('-');

/** An error whose message is the explanation. */
class Unavailable extends Error {}

/** Loads the addon of this platform, or returns one sentence on why there is none. Never throws. */
export function loadBinding(): { binding: Binding; reason?: never } | { binding?: never; reason: string } {
  if (process.env['FDSPLICE_ENGINE'] === 'stream') {
    return { reason: 'FDSPLICE_ENGINE=stream selects the stream engine' };
  }
  try {
    return { binding: find() };
  } catch (error) {
    return { reason: `no native core for ${platform}: ${explain(error)}` };
  }
}

function find(): Binding {
  const { version, engines, optionalDependencies } = manifest;
  // Taking over a socket depends on internals of Node, which are tested on these versions only.
  if (!isSupportedNode()) throw new Unavailable(`Node ${process.versions.node} is not in ${engines.node}`);
  const place = ownFile();
  const load = createRequire(place);
  const home = ownFolder(place);
  const built = home === undefined ? undefined : inOwnFolder(home);
  if (built !== undefined) return load(built) as Binding;

  const name = `@fdsplice/${platform}`;
  const names = Object.keys(optionalDependencies);
  if (!names.includes(name)) throw new Unavailable('none is built for it');
  const found = installed(load, name);
  if (found === undefined) {
    throw new Unavailable(home === undefined ? notBeside(name, place) : whyMissing(load, name, names));
  }
  if (found !== version) throw new Unavailable(`${name} is version ${found}, fdsplice is ${version}`);
  return load(name) as Binding;
}

/** The file that contains this code, which may be the bundle of an application. */
function ownFile(): string {
  try {
    return fileURLToPath(import.meta.url);
  } catch {
    // A bundler has turned the CommonJS module into a part of an ES module, where it does not know its file.
    return process.argv[1] ?? process.execPath;
  }
}

/** The folder of this package: the nearest one with a package.json. A bundle has none or another package's. */
function ownFolder(file: string): string | undefined {
  let folder = dirname(file);
  while (!existsSync(join(folder, 'package.json'))) {
    if (folder === dirname(folder)) return undefined;
    folder = dirname(folder);
  }
  const { name } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: string };
  return name === manifest.name ? folder : undefined;
}

/** The addon in the package's own folder: a checkout has its own build there, and can name another one. */
function inOwnFolder(folder: string): string | undefined {
  // Only a checkout has a Cargo.toml; an installation ignores the variable.
  const chosen = process.env['FDSPLICE_ADDON'];
  if (chosen !== undefined && existsSync(join(folder, 'Cargo.toml'))) return chosen;
  const built = join(folder, `fdsplice.${platform}.node`);
  return existsSync(built) ? built : undefined;
}

function isSupportedNode(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major === 20) return minor >= 19;
  if (major === 22) return minor >= 13;
  return major >= 24;
}

/** The version of a platform package, if it is installed. */
function installed(load: NodeJS.Require, name: string): string | undefined {
  try {
    return (load(`${name}/package.json`) as { version: string }).version;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

function whyMissing(load: NodeJS.Require, name: string, names: string[]): string {
  const others = names.filter((other) => installed(load, other) !== undefined);
  if (others.length > 0) {
    return `only ${others.join(' and ')} is installed: node_modules comes from another kind of machine, so install here again`;
  }
  return (
    `the package ${name} is not installed: optional packages were left out (npm --omit=optional, pnpm --no-optional), ` +
    'or by a lock file that was made without it'
  );
}

function notBeside(name: string, bundle: string): string {
  return (
    `the package ${name} is not installed where ${bundle} is, which bundles fdsplice: put node_modules/${name} beside it, ` +
    'or exclude fdsplice from the bundle'
  );
}

function explain(error: unknown): string {
  if (error instanceof Unavailable) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_DLOPEN_DISABLED') {
    return 'addons are disabled in this process (--permission without --allow-addons, or --no-addons)';
  }
  // The first line is the message of the C library. Node may add lines on the requiring modules.
  const [first = ''] = String(message).split('\n');
  return /GLIBC_[\d.]+' not found/.test(first) ? `the C library of this system is too old: ${first}` : first;
}

/** Distinguishes ARMv6 from ARMv7: Node calls both `arm`, and the ARMv7 build has instructions that an ARMv6 lacks. */
function cpu(): string {
  if (process.arch !== 'arm') return process.arch;
  const { variables } = process.config as { variables?: { arm_version?: string } };
  return Number(variables?.arm_version) < 7 ? 'armv6' : 'arm';
}

function abi(): string {
  const suffix = process.arch === 'arm' ? 'eabihf' : '';
  return `${isGlibc() ? 'gnu' : 'musl'}${suffix}`;
}

function isGlibc(): boolean {
  const { report } = process as { report?: NodeJS.ProcessReport & { excludeNetwork?: boolean } };
  if (report === undefined) return true;
  // Without this option, the report resolves the name of every address of the machine.
  const { excludeNetwork = false } = report;
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime !== undefined;
  } catch {
    // The report is disabled or replaced. If the guess is wrong, loading the addon fails and is explained.
    return true;
  } finally {
    report.excludeNetwork = excludeNetwork;
  }
}
