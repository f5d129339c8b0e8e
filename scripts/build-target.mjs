// npm run build:target -- <target> [<target> …] | --all
// Builds the addon for platforms other than this machine's, or for this one with an old C library, and puts it into
// npm/<platform>/. A target is a Rust triple or the name of a folder in npm/. Needs rustup, and Python with pip: zig is
// the linker and brings the C libraries of all targets, so that nothing else has to be installed.
import { copyFileSync, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { check } from './lib/check-binary.mjs';
import { mustRun, root, runMain, StepError } from './lib/run.mjs';
import { GLIBC, target, targets } from './lib/targets.mjs';

const tools = join(root, 'target/zig');
const requirements = ['ziglang==0.17.1', 'cargo-zigbuild==0.24.0'];

await runMain(async () => {
  const names = process.argv.slice(2);
  if (names.length === 0) throw new StepError('which target? --all, or some of those in package.json');
  const wanted = names.includes('--all') ? targets : names.map(target);
  const env = await withZig();
  for (const one of wanted) await build(one, env);
});

/** An environment in which cargo finds zig, installed under target/ where nothing else sees it. */
async function withZig() {
  if (!existsSync(join(tools, 'bin/cargo-zigbuild'))) {
    await mustRun('python3', ['-m', 'pip', 'install', '--quiet', '--target', tools, ...requirements]);
  }
  return {
    ...process.env,
    PATH: [join(tools, 'bin'), process.env.PATH].join(delimiter),
    // cargo-zigbuild looks for the module where there is no program called zig.
    PYTHONPATH: tools,
  };
}

async function build({ triple, isMusl, platform, file }, env) {
  await mustRun('rustup', ['target', 'add', triple]);
  const variable = `CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}_RUSTFLAGS`;
  // Rust links musl into everything by default, and a library that Node loads has to use Node's own.
  const rustEnv = isMusl ? { ...env, [variable]: '-C target-feature=-crt-static' } : env;
  const versioned = isMusl ? triple : `${triple}.${GLIBC}`;
  const options = ['--release', '--locked', '-p', 'fdsplice-node', '--target', versioned];
  await mustRun('cargo', ['zigbuild', ...options], { env: rustEnv });
  copyFileSync(join(root, 'target', triple, 'release/libfdsplice_node.so'), file);
  check(platform);
}
