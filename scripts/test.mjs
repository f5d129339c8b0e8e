// npm test: the tests of cargo and ava, from any state of the checkout, with one total at the end.
//   npm test                                  both
//   npm test -- --cargo-only [cargo args]     e.g. --cargo-only --test relay reset
//   npm test -- --ava-only [ava args]         e.g. --ava-only __test__/relay/reset.spec.ts --match '*reset*'
//   npm test -- --debug-only [ava args]       with a debug build of the addon: some folders of specs, or the given specs
//   npm test -- --stream-only [ava args]      on the stream engine: some folders of specs, or the given specs
//   npm test -- --nodes-only [ava args]       on the other Node lines: some folders of specs, or the given specs
//   npm test -- --packages-only               the test suites of packages that adapters serve, with the adapter in place
//   npm run test:full                         also the long tests (FDSPLICE_FULL=1, cargo's ignored ones), and every spec
//                                             with the debug build, on the stream engine and on every Node line, every
//                                             bundler in the install test, and the suites of packages
//   npm run test:install                      the package installed from a local registry (--built: as released)
//   npm run test:docs                         the programs and commands in the documents
//   npm run test:ci [-- --this-node]          all but the suites of packages, as CI does; with --this-node, without the
//                                             other Node lines
// FDSPLICE_REQUIRE_TOOLS=1: a test skipped for lack of a tool counts as a failure.
import { join } from 'node:path';
import { avaRuns, debugRuns, otherNodesRuns, streamRuns } from './lib/ava.mjs';
import { Durations } from './lib/durations.mjs';
import { prepare } from './lib/prepare.mjs';
import { root, run, runMain } from './lib/run.mjs';
import { runBeside } from './lib/beside.mjs';
import { CargoTotals, SuiteTotals } from './lib/totals.mjs';

const full = process.argv[2] === '--full';
/** The suites that run alone with `--<name>-only`, in the order in which CI starts them. CI leaves out the last one. */
const suites = ['cargo', 'ava', 'debug', 'stream', 'nodes', 'install', 'docs', 'packages'];
const durations = new Durations();

await runMain(async () => {
  const { chosen, rest, isCi } = parseArguments(process.argv.slice(full ? 3 : 2));
  await prepare();
  const runs = await runsOfAll(chosen, rest);
  report(isCi ? await runBeside(runs, durations) : await runInOrder(runs));
});

async function runsOfAll(chosen, args) {
  const runs = [];
  for (const name of chosen) runs.push(...(await runsOf(name, args)));
  return runs;
}

async function runInOrder(runs) {
  const results = [];
  for (const { name, run } of runs) {
    console.log(`\n${name}`);
    results.push(await durations.of(name, () => run()));
  }
  return results;
}

function parseArguments([mode, ...rest]) {
  const only = suites.find((name) => mode === `--${name}-only`);
  if (only !== undefined) return { chosen: [only], rest };
  if (mode === undefined) {
    const chosen = full ? suites.filter((name) => name !== 'docs') : suites.slice(0, suites.indexOf('debug'));
    return { chosen, rest };
  }
  const inCi = suites.filter((name) => name !== 'packages');
  if (mode === '--ci' && rest.length === 0) return { chosen: inCi, rest, isCi: true };
  if (mode === '--ci' && rest.join(' ') === '--this-node') {
    return { chosen: inCi.filter((name) => name !== 'nodes'), rest: [], isCi: true };
  }
  const modes = suites.map((name) => `--${name}-only`).join(', ');
  console.error(`unknown argument ${mode}: one of ${modes}, then arguments for that runner`);
  process.exit(2);
}

/** The runs of a suite, as `runBeside` takes them. */
function runsOf(name, args) {
  const long = full ? { ...process.env, FDSPLICE_FULL: '1' } : process.env;
  if (name === 'cargo') return [{ name, company: 'any', run: (print) => runCargo(args, long, print) }];
  if (name === 'ava') return avaRuns(args, long, { all: full });
  if (name === 'stream') return streamRuns(args, long, { all: full });
  // The long tests find errors that depend neither on the build mode nor on the Node line.
  if (name === 'debug') return debugRuns(args, process.env, { all: full });
  if (name === 'nodes') return otherNodesRuns(args, process.env, { all: full });
  return [{ name, company: 'any', run: (print) => runOwnSuite(name, args, long, print) }];
}

async function runCargo(args, env, print) {
  const totals = new CargoTotals();
  const selected = args.length > 0 ? args : ['--workspace'];
  const ignored = full ? ['--', '--include-ignored'] : [];
  const command = ['test', '--no-fail-fast', ...selected, ...ignored];
  return totals.finish(await run('cargo', command, { env, onLine: (line) => totals.add(line), print }));
}

/** A suite of our own: `scripts/test-<name>.mjs`. */
async function runOwnSuite(name, args, env, print) {
  const totals = new SuiteTotals(name);
  const command = [join(root, `scripts/test-${name}.mjs`), ...args];
  const lines = { env, onLine: (line) => totals.add(line), print };
  return totals.finish(await run(process.execPath, command, lines));
}

function report(results) {
  const sum = (pick) => results.reduce((total, result) => total + pick(result), 0);
  const skipped = results.flatMap((result) => result.skipped);
  const problems = results.flatMap((result) => result.problems);
  durations.print();
  console.log('');
  for (const name of skipped) console.log(`skipped: ${name}`);
  if (process.env.FDSPLICE_REQUIRE_TOOLS === '1') {
    const missing = results.flatMap((result) => result.missing);
    problems.push(...missing.map((name) => `skipped although FDSPLICE_REQUIRE_TOOLS is set: ${name}`));
  }
  const failures = [...results.flatMap((result) => result.failures), ...problems];
  if (failures.length > 0) for (const result of results) console.log(result.details.join('\n'));
  for (const failure of failures) console.log(`failed: ${failure}`);
  const parts = [`${sum((result) => result.passed)} passed`, `${failures.length} failed`];
  if (skipped.length > 0) parts.push(`${skipped.length} skipped`);
  console.log(parts.join(', '));
  if (failures.length > 0) process.exitCode = 1;
}
