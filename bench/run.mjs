import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, runMain } from '../scripts/lib/run.mjs';
import { readArguments } from './lib/arguments.mjs';
import { buildAll } from './lib/build.mjs';
import { stopAll } from './lib/children.mjs';
import { describeMachine } from './lib/machine.mjs';
import { runCase } from './lib/measure.mjs';
import { startOrigin } from './lib/load.mjs';
import { buildsFromOutside, noOwnNetwork, runInOwnNetwork } from './lib/network.mjs';
import { findPeers, takesPart } from './lib/peers.mjs';
import { probeCounters } from './lib/perf.mjs';
import { printCase, printHead } from './lib/report.mjs';
import { saveResults } from './lib/results.mjs';
import { chooseCases } from './lib/works.mjs';

async function main() {
  const settings = readArguments(process.argv.slice(2));
  if (!settings) return;
  const started = Date.now();
  const cases = chooseCases(settings);
  const builds = buildsFromOutside() ?? buildAll(settings);
  if (settings.network === 'own' && buildsFromOutside() === undefined) {
    const obstacle = noOwnNetwork();
    if (obstacle === undefined) {
      process.exitCode = await runInOwnNetwork(builds);
      return;
    }
    console.error(`in the machine's network, because there can be no other: ${obstacle}`);
    settings.network = 'machine';
  }
  const counters = probeCounters();
  const peers = findPeers(settings, builds);
  const results = {
    startedAt: new Date(started).toISOString(),
    machine: describeMachine(),
    counters,
    settings,
    peers: peers.map(({ name, about, version, missing }) => ({ name, about, version, missing })),
    cases: [],
  };
  const directory = join(root, 'bench/results');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${settings.name}.json`);
  printHead(results);

  const present = peers.filter(({ missing }) => missing === undefined);
  // A case has its share of the time by the number of peers that take part.
  const turns = (work) => present.filter((peer) => takesPart(peer, work)).length;
  const origin = await startOrigin();
  for (const [index, work] of cases.entries()) {
    const left = (settings.seconds ?? Infinity) - (Date.now() - started) / 1000;
    const seconds = (left * turns(work)) / cases.slice(index).reduce((sum, other) => sum + turns(other), 0);
    const measured = await runCase({
      work,
      peers: present,
      origin,
      counters,
      rounds: settings.rounds,
      seconds,
    });
    results.cases.push(measured);
    results.seconds = (Date.now() - started) / 1000;
    // After every case, so that an interrupted run keeps what it has.
    saveResults(file, results);
    printCase(measured, results);
  }
  console.log(`\n${results.seconds.toFixed(0)} s; written to ${file}`);
  const ours = results.cases.flatMap(({ rounds }) => rounds.filter(({ peer }) => peer === 'fdsplice'));
  if (ours.some(({ error }) => error !== undefined)) process.exitCode = 1;
}

try {
  await runMain(main);
} finally {
  await stopAll();
}
