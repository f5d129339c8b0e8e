// npm run test:memory [-- miri|address|thread]: what is too slow for every run. The parts of the core that make no
// system calls under miri; all of its tests under AddressSanitizer; the pools and the limiter, which threads share,
// under ThreadSanitizer. Needs the nightly toolchain with miri and rust-src:
//   rustup toolchain install nightly --profile minimal --component miri,rust-src
// FDSPLICE_REQUIRE_TOOLS=1: without it, this fails instead of saying so.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, run, runMain } from './lib/run.mjs';

const TARGET = 'x86_64-unknown-linux-gnu';
/** Runs itself where there is no procfs, without which the sanitizers can neither read their options nor end well. */
const WITHOUT_PROC = 'pipes_that_cannot_be_opened_again_lose_nothing_and_burn_nothing';
const sanitized = (kind, ...build) => ({
  args: [
    'test',
    '-p',
    'fdsplice',
    ...build,
    '--target',
    TARGET,
    '--no-fail-fast',
    '--',
    '--skip',
    WITHOUT_PROC,
  ],
  env: {
    RUSTFLAGS: `-Zsanitizer=${kind}`,
    // Memory that a thread keeps for its life is no leak; two reports of one race are one.
    ASAN_OPTIONS: 'detect_leaks=1',
    TSAN_OPTIONS: 'halt_on_error=1',
    CARGO_TARGET_DIR: join(root, 'target', kind),
  },
});

const STEPS = {
  miri: {
    // What is arithmetic: miri has no splice and no epoll, and a simulated second of a limiter takes it minutes.
    args: ['miri', 'test', '-p', 'fdsplice', '--lib', '--', 'direction::bulk', 'rate::tests::a_new_rate'],
    env: { MIRIFLAGS: '-Zmiri-disable-isolation', CARGO_TARGET_DIR: join(root, 'target', 'miri') },
  },
  address: sanitized('address', '--lib', '--tests'),
  thread: sanitized('thread', '-Zbuild-std', '--lib', '--test', 'shared'),
};

await runMain(async () => {
  const wanted = process.argv.slice(2);
  const names = wanted.length > 0 ? wanted : Object.keys(STEPS);
  const missing = missingTool();
  if (missing !== undefined) {
    console.log(`skipped: memory safety (${missing})`);
    if (process.env.FDSPLICE_REQUIRE_TOOLS === '1') process.exitCode = 1;
    return;
  }
  const failed = [];
  for (const name of names) {
    const step = STEPS[name];
    if (step === undefined) throw new Error(`no such step: ${name}`);
    console.log(`== ${name}`);
    const env = { ...process.env, ...step.env };
    const { ok } = await run('cargo', ['+nightly', ...step.args], { env });
    if (!ok) failed.push(name);
  }
  console.log(
    failed.length === 0 ? `memory safety: ${names.join(', ')} passed` : `failed: ${failed.join(', ')}`,
  );
  if (failed.length > 0) process.exitCode = 1;
});

function missingTool() {
  const list = spawnSync('rustup', ['component', 'list', '--toolchain', 'nightly', '--installed'], {
    encoding: 'utf8',
  });
  if (list.status !== 0) return 'no nightly toolchain';
  for (const component of ['miri', 'rust-src']) {
    if (!list.stdout.includes(component)) return `the nightly toolchain has no ${component}`;
  }
  return undefined;
}
