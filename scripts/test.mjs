// npm test: cargo's tests and ava's in one go, from any state of the checkout, with one total at the end.
//   npm test                                  both
//   npm test -- --cargo-only [cargo args]     e.g. --cargo-only -p fdsplice half_close
//   npm test -- --ava-only [ava args]         e.g. --ava-only __test__/relay.spec.ts --match '*reset*'
//   npm run test:full                         also the long tests (FDSPLICE_FULL=1, cargo's ignored ones)
//   npm run test:install                      the package installed from a registry of our own (--built: as released)
//   npm run test:docs                         the programs in the documents
//   npm run test:ci                           all of these, as CI does
// FDSPLICE_REQUIRE_TOOLS=1: a test skipped for lack of a tool counts as a failure.
import { join } from 'node:path';
import { prepare } from './lib/prepare.mjs';
import { mustRun, root, run, runMain } from './lib/run.mjs';
import { AvaTotals, CargoTotals, SuiteTotals } from './lib/totals.mjs';

await runMain(async () => {
  const { suites, rest, full } = parseArguments(process.argv.slice(2));
  const env = full ? { ...process.env, FDSPLICE_FULL: '1' } : process.env;
  await prepare();
  const results = [];
  if (suites.includes('cargo')) results.push(await runCargo(rest, env, full));
  if (suites.includes('ava')) results.push(await runAva(rest, env));
  for (const name of ['docs', 'install']) {
    if (suites.includes(name)) results.push(await runSuite(name, rest, env));
  }
  report(results);
});

function parseArguments(args) {
  const full = args[0] === '--full';
  const [mode, ...rest] = full ? args.slice(1) : args;
  if (mode === '--cargo-only') return { suites: ['cargo'], rest, full };
  if (mode === '--ava-only') return { suites: ['ava'], rest, full };
  if (mode === '--install-only') return { suites: ['install'], rest, full };
  if (mode === '--docs-only') return { suites: ['docs'], rest, full };
  if (mode === '--ci') return { suites: ['cargo', 'ava', 'docs', 'install'], rest, full };
  if (mode === undefined) return { suites: ['cargo', 'ava'], rest, full };
  console.error(
    `unknown argument ${mode}: --cargo-only, --ava-only, --docs-only or --install-only, then arguments for that runner`,
  );
  process.exit(2);
}

async function runCargo(args, env, full) {
  const totals = new CargoTotals();
  const selected = args.length > 0 ? args : ['--workspace'];
  const ignored = full ? ['--', '--include-ignored'] : [];
  const command = ['test', '--no-fail-fast', ...selected, ...ignored];
  return totals.finish(await run('cargo', command, { env, onLine: (line) => totals.add(line) }));
}

async function runAva(args, env) {
  // The specs start this peer for what Node itself cannot do to a socket.
  await mustRun('cargo', ['build', '--quiet', '-p', 'fdsplice-testpeer']);
  const totals = new AvaTotals();
  const command = [join(root, 'node_modules/ava/entrypoints/cli.mjs'), ...args];
  // On the Linux console ava would draw its marks in ASCII, and they are what is counted.
  const avaEnv = { ...env, TERM: 'dumb' };
  return totals.finish(
    await run(process.execPath, command, { env: avaEnv, onLine: (line) => totals.add(line) }),
  );
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
    // Only a test that says it belongs to the full run may be left out where every tool has to be there.
    const wrong = skipped.filter((name) => !name.includes('test:full'));
    problems.push(...wrong.map((name) => `skipped although FDSPLICE_REQUIRE_TOOLS is set: ${name}`));
  }
  const failures = [...results.flatMap((result) => result.failures), ...problems];
  if (failures.length > 0) for (const result of results) console.log(result.details.join('\n'));
  for (const failure of failures) console.log(`failed: ${failure}`);
  const parts = [`${sum((result) => result.passed)} passed`, `${failures.length} failed`];
  if (skipped.length > 0) parts.push(`${skipped.length} skipped`);
  console.log(parts.join(', '));
  if (failures.length > 0) process.exitCode = 1;
}
