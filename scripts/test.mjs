// npm test: cargo's tests and ava's in one go, from any state of the checkout, with one total at the end.
//   npm test                                  both
//   npm test -- --cargo-only [cargo args]     e.g. --cargo-only -p fdsplice half_close
//   npm test -- --ava-only [ava args]         e.g. --ava-only __test__/relay.spec.ts --match '*reset*'
//   npm test -- --stream-only [ava args]      without the native core: the specs of behaviour, or those that are named
//   npm test -- --nodes-only [ava args]       on the other Node lines: the specs of endpoints and workers, or those
//   npm run test:full                         also the long tests (FDSPLICE_FULL=1, cargo's ignored ones), with the core
//                                             and without, and every spec on every Node line
//   npm run test:install                      the package installed from a registry of our own (--built: as released)
//   npm run test:docs                         the programs in the documents
//   npm run test:ci                           all of these, as CI does
// FDSPLICE_REQUIRE_TOOLS=1: a test skipped for lack of a tool counts as a failure.
import { join } from 'node:path';
import { runAva, runOnOtherNodes, runWithoutCore } from './lib/ava.mjs';
import { prepare } from './lib/prepare.mjs';
import { root, run, runMain } from './lib/run.mjs';
import { CargoTotals, SuiteTotals } from './lib/totals.mjs';

const alone = ['cargo', 'ava', 'stream', 'nodes', 'docs', 'install'];

await runMain(async () => {
  const { suites, rest, full } = parseArguments(process.argv.slice(2));
  const env = full ? { ...process.env, FDSPLICE_FULL: '1' } : process.env;
  await prepare();
  const results = [];
  for (const name of suites) results.push(await runNamed(name, rest, env, full));
  report(results.flat());
});

function parseArguments(args) {
  const full = args[0] === '--full';
  const [mode, ...rest] = full ? args.slice(1) : args;
  const only = alone.find((name) => mode === `--${name}-only`);
  if (only !== undefined) return { suites: [only], rest, full };
  if (mode === '--ci') return { suites: alone, rest, full };
  if (mode === undefined)
    return { suites: full ? ['cargo', 'ava', 'stream', 'nodes'] : ['cargo', 'ava'], rest, full };
  const modes = alone.map((name) => `--${name}-only`).join(', ');
  console.error(`unknown argument ${mode}: one of ${modes}, then arguments for that runner`);
  process.exit(2);
}

function runNamed(name, args, env, full) {
  if (name === 'cargo') return runCargo(args, env, full);
  if (name === 'ava') return runAva(args, env);
  if (name === 'stream') return runWithoutCore(args, env, { all: full });
  // What takes long depends on this package, not on the Node below it.
  if (name === 'nodes') return runOnOtherNodes(args, process.env, { all: full });
  return runSuite(name, args, env);
}

async function runCargo(args, env, full) {
  const totals = new CargoTotals();
  const selected = args.length > 0 ? args : ['--workspace'];
  const ignored = full ? ['--', '--include-ignored'] : [];
  const command = ['test', '--no-fail-fast', ...selected, ...ignored];
  return totals.finish(await run('cargo', command, { env, onLine: (line) => totals.add(line) }));
}

async function runSuite(name, args, env) {
  const totals = new SuiteTotals(name);
  const command = [join(root, `scripts/test-${name}.mjs`), ...args];
  return totals.finish(await run(process.execPath, command, { env, onLine: (line) => totals.add(line) }));
}

function report(results) {
  const sum = (pick) => results.reduce((total, result) => total + pick(result), 0);
  const skipped = results.flatMap((result) => result.skipped);
  const problems = results.flatMap((result) => result.problems);
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
