// The platforms that the addon is built for.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './run.mjs';

/** The glibc that the official builds of the oldest supported Node line (20) need. An addon may need no newer one. */
export const GLIBC = '2.28';

const machines = {
  x64: 'Advanced Micro Devices X86-64',
  arm64: 'AArch64',
  arm: 'ARM',
  riscv64: 'RISC-V',
};
const cpus = { x86_64: 'x64', aarch64: 'arm64', armv7: 'arm', riscv64gc: 'riscv64' };

const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));

/** The published builds, one for each Rust target in package.json. */
export const targets = readJson('package.json').napi.targets.map((triple) => {
  const [arch, , , abi] = triple.split('-');
  const platform = `linux-${cpus[arch]}-${abi}`;
  const file = `fdsplice.${platform}.node`;
  return {
    triple,
    platform,
    machine: machines[cpus[arch]],
    isMusl: abi.startsWith('musl'),
    name: `@fdsplice/${platform}`,
    folder: join(root, 'npm', platform),
    file: join(root, 'npm', platform, file),
  };
});

/** The target with this triple or platform. */
export function target(name) {
  const found = targets.find(({ triple, platform }) => name === triple || name === platform);
  if (found) return found;
  console.error(
    `unknown target ${name}, one of:\n${targets.map(({ triple, platform }) => `  ${triple} (${platform})`).join('\n')}`,
  );
  process.exit(2);
}
