// npm run lock: updates the lock files of the project and of its install test, complete for every platform.
// When a registry (a partial mirror, for example) does not have the optional package of another platform, `npm install`
// leaves that package out of the lock file, and `npm ci` then rejects the lock file everywhere. This script adds such an
// entry from the manifest of the package that depends on it. The entry has no integrity hash, and npm fetches the package
// only on its own platform.
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun, root, runMain, StepError } from './lib/run.mjs';

const platform =
  /[-/](aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32)-([a-z0-9]+)(?:-(\w+))?$/;

await runMain(async () => {
  for (const folder of ['.', 'scripts/install']) await update(join(root, folder));
});

async function update(folder) {
  // In another folder, because npm would otherwise list only the optional packages in node_modules.
  const scratch = mkdtempSync(join(tmpdir(), 'fdsplice-lock-'));
  try {
    for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
      if (existsSync(join(folder, name))) copyFileSync(join(folder, name), join(scratch, name));
    }
    const options = ['--package-lock-only', '--no-audit', '--no-fund', '--prefix', scratch];
    const file = join(scratch, 'package-lock.json');
    await mustRun('npm', ['install', ...options]);
    const lock = JSON.parse(readFileSync(file, 'utf8'));
    addMissing(lock.packages);
    writeFileSync(file, JSON.stringify(lock));
    // Again, so that npm writes the order and format.
    await mustRun('npm', ['install', ...options]);
    copyFileSync(file, join(folder, 'package-lock.json'));
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function addMissing(packages) {
  let added = 0;
  for (const [parent, manifest] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(manifest.optionalDependencies ?? {})) {
      if (isLocked(packages, parent, name)) continue;
      if (!/^\d+\.\d+\.\d+$/.test(version)) throw new StepError(`${parent}: ${name}@${version} is not exact`);
      const dev = manifest.dev ? { dev: true } : {};
      packages[`node_modules/${name}`] = { version, ...platformOf(name), ...dev, optional: true };
      added += 1;
    }
  }
  console.log(`added ${added} packages of other platforms`);
}

/** Searches as Node does: beside the parent, then in each node_modules above it. */
function isLocked(packages, parent, name) {
  for (let base = parent; ; base = base.slice(0, Math.max(0, base.lastIndexOf('/node_modules/')))) {
    if (packages[base ? `${base}/node_modules/${name}` : `node_modules/${name}`]) return true;
    if (base === '') return false;
  }
}

/** The names of platform packages end in the system, the processor and, for some systems, the ABI. */
function platformOf(name) {
  if (name.endsWith('-wasm32-wasi')) return { cpu: ['wasm32'] };
  const match = platform.exec(name);
  if (!match) throw new StepError(`the name of ${name} does not contain its platform`);
  const [, os, cpu, abi = ''] = match;
  const libc = abi.startsWith('musl') ? 'musl' : 'glibc';
  return { cpu: [cpu], ...(os === 'linux' ? { libc: [libc] } : {}), os: [os] };
}
