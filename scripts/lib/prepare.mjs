// Prepares a checkout. Uses only Node's built-in modules, because nothing else may be installed yet.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, root, StepError } from './run.mjs';

/** Whether the caller has built everything, as `.ci/run` does. Builds that are up to date take time too. */
const isPrepared = process.env.FDSPLICE_PREPARED === '1';

/**
 * Makes a checkout ready to run, from any state including a fresh clone: installs the dependencies, brings the release
 * build of the addon and the TypeScript build up to date.
 */
export async function prepare() {
  if (isPrepared) return;
  await install();
  // Unconditional: cargo and tsc decide what is out of date, and both are quick when nothing is.
  await mustRun('npm', ['run', '--silent', 'build']);
}

/** Brings the TypeScript build up to date. */
export async function prepareTypeScript() {
  if (isPrepared) return;
  await mustRun('npm', ['run', '--silent', 'build:ts']);
}

/** Builds the peer that some specs start, for what Node cannot do to a socket. */
export async function preparePeer() {
  if (isPrepared) return;
  await mustRun('cargo', ['build', '--quiet', '-p', 'fdsplice-testpeer']);
}

/** Installs the npm dependencies, unless they are installed. */
export async function install() {
  if (!isInstalled(root)) await mustRun('npm', ['ci', '--no-audit', '--no-fund']);
}

/** Whether node_modules of a folder matches its package-lock.json, by npm's own record of the installed packages. */
export function isInstalled(folder) {
  const wanted = readPackages(join(folder, 'package-lock.json'));
  if (!wanted) throw new StepError('package-lock.json is missing or unreadable');
  const installed = readPackages(join(folder, 'node_modules/.package-lock.json'));
  if (!installed) return false;
  const isSame = (path) => {
    // npm does not install optional packages for other platforms.
    if (!installed[path]) return Boolean(wanted[path].optional || wanted[path].devOptional);
    return (
      installed[path].version === wanted[path].version && installed[path].integrity === wanted[path].integrity
    );
  };
  return Object.keys(wanted).every((path) => path === '' || isSame(path));
}

function readPackages(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages;
  } catch {
    return undefined;
  }
}
