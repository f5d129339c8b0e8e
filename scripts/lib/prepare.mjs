import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, root, StepError } from './run.mjs';

/**
 * Makes a checkout ready to run, from any state including a fresh clone: dependencies installed, native release build
 * and TypeScript build up to date. Uses only Node's built-in modules, because nothing else may be there yet.
 */
export async function prepare() {
  if (!isInstalled()) await mustRun('npm', ['ci', '--no-audit', '--no-fund']);
  // Always called: cargo and tsc know best what is out of date, and both are quick when nothing is.
  await mustRun('npm', ['run', '--silent', 'build']);
}

/** Whether node_modules holds what package-lock.json asks for, by npm's own record of what it installed. */
function isInstalled() {
  const wanted = readPackages(join(root, 'package-lock.json'));
  if (!wanted) throw new StepError('package-lock.json is missing or unreadable');
  const installed = readPackages(join(root, 'node_modules/.package-lock.json'));
  if (!installed) return false;
  const isSame = (path) => {
    // npm leaves out what is optional and not for this platform.
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
