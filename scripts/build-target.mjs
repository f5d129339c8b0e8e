// npm run build:target -- <target> [<target> …] | --all
// Builds the addon for another platform, or for this one against an old C library, and puts it into npm/<platform>/. A
// target is a Rust triple or the name of a folder in npm/. Needs rustup, and Python with pip: zig is the linker and
// contains the C libraries of all targets, so nothing else has to be installed.
import { copyFileSync, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { check } from './lib/check-binary.mjs';
import { mustRun, root, runMain, StepError } from './lib/run.mjs';
import { GLIBC, target, targets } from './lib/targets.mjs';

const tools = join(root, 'target/zig');
const requirements = ['ziglang==0.17.1', 'cargo-zigbuild==0.24.0'];

await runMain(async () => {
  const names = process.argv.slice(2);
  if (names.length === 0) throw new StepError('which target? --all, or targets listed in package.json');
  const wanted = names.includes('--all') ? targets : names.map(target);
  const env = await withZig();
  for (const each of wanted) await build(each, env);
});

/** An environment in which cargo finds zig, which is installed under target/ for this script only. */
async function withZig() {
  if (!existsSync(join(tools, 'bin/cargo-zigbuild'))) {
    await mustRun('python3', ['-m', 'pip', 'install', '--quiet', '--target', tools, ...requirements]);
  }
  return {
    ...process.env,
    PATH: [join(tools, 'bin'), process.env.PATH].join(delimiter),
    // Without a program called zig, cargo-zigbuild looks for the Python module.
    PYTHONPATH: tools,
  };
}

async function build({ triple, isMusl, platform, file }, env) {
  await mustRun('rustup', ['target', 'add', triple]);
  const variable = `CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}_RUSTFLAGS`;
  // Rust links musl statically by default. An addon has to use the musl that Node has loaded.
  const rustEnv = isMusl ? { ...env, [variable]: '-C target-feature=-crt-static' } : env;
  const versioned = isMusl ? triple : `${triple}.${GLIBC}`;
  const options = ['--release', '--locked', '-p', 'fdsplice-node', '--target', versioned];
  await mustRun('cargo', ['zigbuild', ...options], { env: rustEnv });
  copyFileSync(join(root, 'target', triple, 'release/libfdsplice_node.so'), file);
  check(platform);
}
