// npm run lock: brings package-lock.json up to date with package.json, complete for every platform.
// `npm install` leaves another platform's optional package out of the lock file when the registry in use (a partial
// mirror, say) does not serve it, and `npm ci` then refuses that lock file everywhere. Such an entry is added here from
// what its parent's manifest says; it has no integrity hash, and is only ever fetched on the platform it is for.
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun, root, runMain, StepError } from './lib/run.mjs';

const platform =
  /[-/](aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32)-([a-z0-9]+)(?:-(\w+))?$/;

await runMain(async () => {
  // Apart from node_modules, which npm would otherwise take for the whole truth about optional packages.
  const scratch = mkdtempSync(join(tmpdir(), 'fdsplice-lock-'));
  try {
    for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
      if (existsSync(join(root, name))) copyFileSync(join(root, name), join(scratch, name));
    }
    const options = ['--package-lock-only', '--no-audit', '--no-fund', '--prefix', scratch];
    const file = join(scratch, 'package-lock.json');
    await mustRun('npm', ['install', ...options]);
    const lock = JSON.parse(readFileSync(file, 'utf8'));
    addMissing(lock.packages);
    writeFileSync(file, JSON.stringify(lock));
    // Once more, so that the order and form are npm's own.
    await mustRun('npm', ['install', ...options]);
    copyFileSync(file, join(root, 'package-lock.json'));
  } finally {
    rmSync(scratch, { recursive: true });
  }
});

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

/** Looks where Node would: beside the parent, then in each node_modules above it. */
function isLocked(packages, parent, name) {
  for (let base = parent; ; base = base.slice(0, Math.max(0, base.lastIndexOf('/node_modules/')))) {
    if (packages[base ? `${base}/node_modules/${name}` : `node_modules/${name}`]) return true;
    if (base === '') return false;
  }
}

/** napi-rs and rollup both end the names of platform packages in system, processor and, where there is one, ABI. */
function platformOf(name) {
  if (name.endsWith('-wasm32-wasi')) return { cpu: ['wasm32'] };
  const match = platform.exec(name);
  if (!match) throw new StepError(`the platform of ${name} cannot be told from its name`);
  const [, os, cpu, abi = ''] = match;
  const libc = abi.startsWith('musl') ? 'musl' : 'glibc';
  return { cpu: [cpu], ...(os === 'linux' ? { libc: [libc] } : {}), os: [os] };
}
