// npm run test:memory [-- miri|address|thread]: runs tests of the core that are too slow for every run. Under miri, the
// parts without system calls; under AddressSanitizer, all tests; under ThreadSanitizer, the pools and the limiter, which
// threads share. Needs the nightly toolchain with miri and rust-src:
//   rustup toolchain install nightly --profile minimal --component miri,rust-src
// Without that toolchain the tests are skipped; with FDSPLICE_REQUIRE_TOOLS=1 they fail instead.
//   --check   checks only that the tests that are named here exist
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, run, runMain, StepError } from './lib/run.mjs';
import { testFiles, titlesIn } from './lib/test-titles.mjs';

const TARGET = 'x86_64-unknown-linux-gnu';
/** This test runs itself again without procfs. The sanitizers need procfs to read their options and to exit cleanly. */
const WITHOUT_PROC = 'pipes_that_cannot_be_opened_again_lose_no_byte_and_do_not_spin';
/** A test of the limiter that is short enough for miri. */
const ON_LIMITER = 'a_new_rate_reaches_a_waiting_transfer';
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
    // Memory that a thread refers to for its lifetime is no leak. The first data race ends the test.
    ASAN_OPTIONS: 'detect_leaks=1',
    TSAN_OPTIONS: 'halt_on_error=1',
    CARGO_TARGET_DIR: join(root, 'target', kind),
  },
});

const STEPS = {
  miri: {
    // Arithmetic only: miri has no splice and no epoll, and needs minutes to simulate a second of a limiter.
    args: ['miri', 'test', '-p', 'fdsplice', '--lib', '--', 'bulk::tests', ON_LIMITER],
    env: { MIRIFLAGS: '-Zmiri-disable-isolation', CARGO_TARGET_DIR: join(root, 'target', 'miri') },
  },
  address: sanitized('address', '--lib', '--tests'),
  thread: sanitized('thread', '-Zbuild-std', '--lib', '--test', 'shared'),
};

await runMain(async () => {
  const wanted = process.argv.slice(2);
  checkNames();
  if (wanted.includes('--check')) return;
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
    if (step === undefined) throw new StepError(`no such step: ${name}`);
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

/** A test that is renamed would otherwise no longer be selected, and nothing would fail. */
function checkNames() {
  const titles = testFiles.filter((path) => path.endsWith('.rs')).flatMap(titlesIn);
  for (const name of [WITHOUT_PROC, ON_LIMITER]) {
    if (!titles.some(([title]) => title === name)) throw new StepError(`there is no test ${name}`);
  }
}

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
