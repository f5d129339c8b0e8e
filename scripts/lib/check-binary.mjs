// Checks a built addon without loading it.
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { StepError } from './run.mjs';
import { GLIBC, target } from './targets.mjs';

/** The libraries that an addon may need: parts of the C library, which every system has. */
const allowed = /^(lib(c|m|dl|rt|pthread)\.so(\.\d+)?|libc\.musl-\w+\.so\.1|ld-linux[\w-]*\.so\.\d)$/;

/**
 * Checks that the addon in npm/<platform>/ is for that platform and needs no library, or version of glibc, that Node
 * itself does not need there. Uses `readelf`, because `objdump` reads only the formats of this machine's processor.
 */
export function check(platform) {
  const { file, machine, isMusl } = target(platform);
  const fail = (problem) => {
    throw new StepError(`${file}: ${problem}`);
  };
  const [, found] = /Machine:\s+(.+)/.exec(readelf('--file-header', file)) ?? [];
  if (found !== machine) fail(`is for ${found}, not ${machine}`);

  const dynamic = readelf('--dynamic', file);
  const needed = [...dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map(([, library]) => library);
  const foreign = needed.filter((library) => !allowed.test(library));
  if (needed.length === 0 || foreign.length > 0) fail(`needs ${foreign.join(', ') || 'no library at all'}`);
  if (/\((RPATH|RUNPATH)\)/.test(dynamic)) fail('has a library search path of its own');

  const versions = [...readelf('--version-info', file).matchAll(/Name: GLIBC_([\d.]+)/g)].map(([, v]) => v);
  const newest = versions.sort(byVersion).at(-1);
  if (isMusl && newest !== undefined) fail(`is for musl, but needs glibc ${newest}`);
  if (!isMusl && newest === undefined) fail('is for glibc, but needs no version of it');
  if (!isMusl && byVersion(newest, GLIBC) > 0) fail(`needs glibc ${newest}, newer than ${GLIBC}`);

  const symbols = readelf('--dyn-syms', '--wide', file);
  if (!/ napi_register_module_v1$/m.test(symbols)) fail('does not export napi_register_module_v1');
  const size = `${(statSync(file).size / 1024).toFixed(0)} KiB`;
  console.log(`${platform}: ${size}, ${isMusl ? 'musl' : `glibc ${newest}`}, needs ${needed.join(' ')}`);
}

function readelf(...args) {
  return execFileSync('readelf', args, { encoding: 'utf8', maxBuffer: 64 << 20, env: { LC_ALL: 'C' } });
}

function byVersion(first, second) {
  const [a, b] = [first, second].map((version) => version.split('.').map(Number));
  return a[0] - b[0] || a[1] - b[1];
}
