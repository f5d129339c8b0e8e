// npm run bench: measures all peers in all cases, and writes results, table and charts.
import { mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root, runMain } from '../scripts/lib/run.mjs';
import { readArguments } from './lib/arguments.mjs';
import { buildAll } from './lib/build.mjs';
import { stopAll } from './lib/children.mjs';
import { describeMachine } from './lib/machine.mjs';
import { runCase } from './lib/measure.mjs';
import { startOrigin } from './lib/load.mjs';
import { buildsFromOutside, noOwnNetwork, runInOwnNetwork } from './lib/network.mjs';
import { checkPeers, findPeers, takesPart } from './lib/peers.mjs';
import { probeCounters } from './lib/perf.mjs';
import { printBounds, printCase, printHead } from './lib/report.mjs';
import { checkSameConditions, checkSameWorkers, loadResults, saveResults } from './lib/results.mjs';
import { chooseCases } from './lib/works.mjs';
import { writeReport } from './lib/write-report.mjs';

const directory = join(root, 'bench/results');

async function main() {
  const asked = readArguments(process.argv.slice(2));
  if (!asked) return;
  const file = join(directory, `${asked.name}.json`);
  const before = asked.resume ? loadResults(file) : undefined;
  if (before) checkSameWorkers(before, asked.workers);
  // A resumed run uses the settings of its first part.
  const settings = before?.settings ?? asked;
  const cases = chooseCases(settings);
  checkPeers(settings);
  const builds = buildsFromOutside() ?? buildAll(settings);
  if (settings.network === 'own' && buildsFromOutside() === undefined) {
    const obstacle = noOwnNetwork();
    if (obstacle === undefined) {
      process.exitCode = await runInOwnNetwork(builds);
      return;
    }
    console.error(`in the machine's network, because no namespace can be created: ${obstacle}`);
    settings.network = 'machine';
  }
  const results = begin(settings, findPeers(settings, builds), before);
  mkdirSync(directory, { recursive: true });
  printHead(results.all);
  await measureAll(cases, results, file);
  printBounds(results.all);

  console.log(`\n${results.all.seconds.toFixed(0)} s; written to ${relative(root, file)}`);
  for (const written of await writeReport(join(directory, asked.name), results.all)) {
    console.log(`  ${relative(root, written)}`);
  }
  const ours = results.all.cases.flatMap(({ rounds }) =>
    rounds.filter(({ peer }) => peer.startsWith('fdsplice')),
  );
  if (ours.some(({ error }) => error !== undefined)) process.exitCode = 1;
}

/** The results to add to, from before or new, and the peers. */
function begin(settings, peers, before) {
  const now = {
    startedAt: new Date().toISOString(),
    seconds: 0,
    machine: describeMachine(),
    counters: probeCounters(),
    settings,
    peers: peers.map(({ name, about, version, missing }) => ({ name, about, version, missing })),
    cases: [],
  };
  if (before) checkSameConditions(before, now);
  return { all: before ?? now, peers };
}

async function measureAll(cases, { all, peers }, file) {
  const { settings, counters } = all;
  const done = new Set(all.cases.map(({ name }) => name));
  const open = cases.filter(({ name }) => !done.has(name));
  for (const measured of all.cases) printCase(measured, all);
  // Cases share the time in proportion to their number of peers.
  const present = peers.filter(({ missing }) => missing === undefined);
  const turns = (work) => present.filter((peer) => takesPart(peer, work)).length;
  const origin = await startOrigin();
  // A resumed run has used some of its time before.
  const started = Date.now() - all.seconds * 1000;
  for (const [index, work] of open.entries()) {
    const left = settings.seconds - (Date.now() - started) / 1000;
    const seconds = (left * turns(work)) / open.slice(index).reduce((sum, other) => sum + turns(other), 0);
    const measured = await runCase({
      work,
      peers,
      origin,
      counters,
      rounds: settings.rounds,
      seconds,
    });
    all.cases.push(measured);
    all.seconds = (Date.now() - started) / 1000;
    // Saved after every case, so that an interrupted run keeps its results.
    saveResults(file, all);
    printCase(measured, all);
  }
}

try {
  await runMain(main);
} finally {
  await stopAll();
}
