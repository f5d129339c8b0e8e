// npm run bench:independent: measures the relays under independent programs (iperf3, wrk and nginx, curl).
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { root, runMain, StepError } from '../scripts/lib/run.mjs';
import { buildAll } from './lib/build.mjs';
import { stopAll } from './lib/children.mjs';
import { independentCases } from './lib/independent-cases.mjs';
import { missingTools, startServers } from './lib/independent-servers.mjs';
import { describeMachine } from './lib/machine.mjs';
import { buildsFromOutside, noOwnNetwork, runInOwnNetwork } from './lib/network.mjs';
import { findPeers, startPeer, takesPart } from './lib/peers.mjs';
import { difference, sample } from './lib/proc.mjs';
import { markdown, printCase, printHead } from './lib/report.mjs';
import { saveResults } from './lib/results.mjs';

const usage = `npm run bench:independent -- [options]

  --quick       ours, HAProxy with splice and Node's pipe; one second a measurement
  --only text   only the cases whose name contains this
  --peers a,b   only ours and these peers
  --rounds N    rounds of each measurement (default 1)
  --seconds N   length of a measurement with iperf3 or wrk (default 1)
  --minutes N   start no measurement after this time (default 5)
  --name name   of the result files in bench/results (default: independent)
`;

async function main() {
  const settings = readSettings();
  if (!settings) return;
  const missing = missingTools();
  if (missing.length > 0)
    throw new StepError(`missing: ${missing.join(', ')}; apt install iperf3 wrk nginx-light curl`);
  const builds = buildsFromOutside() ?? buildAll({});
  if (buildsFromOutside() === undefined && noOwnNetwork() === undefined) {
    process.exitCode = await runInOwnNetwork(builds);
    return;
  }
  const peers = findPeers(settings, builds);
  const unused = { available: false, reason: 'not counted here' };
  const results = {
    startedAt: new Date().toISOString(),
    machine: describeMachine(),
    counters: { instructions: unused, systemCalls: unused },
    settings: { ...settings, network: buildsFromOutside() === undefined ? 'machine' : 'own' },
    peers: peers.map(({ name, about, version, missing }) => ({ name, about, version, missing })),
    cases: independentCases(settings).map((work) => ({
      ...work,
      peers: peers.filter((peer) => takesPart(peer, work)).map(({ name }) => name),
      rounds: [],
    })),
  };
  printHead(results);
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const servers = await startServers();
  const present = peers.filter(({ missing }) => missing === undefined);
  for (let round = 0; round < settings.rounds; round += 1) {
    // The order rotates from round to round.
    for (let turn = 0; turn < present.length; turn += 1) {
      const peer = present[(turn + round) % present.length];
      for (const { peers: players, rounds, ...work } of results.cases) {
        if (!players.includes(peer.name)) continue;
        const figures =
          elapsed() > settings.minutes * 60
            ? { error: 'out of time', skipped: true }
            : await measure(peer, servers[work.server], work).catch((error) => ({ error: error.message }));
        rounds.push({ round, peer: peer.name, ...figures });
        if (process.stderr.isTTY) process.stderr.write('.');
      }
    }
  }
  results.seconds = elapsed();
  for (const measured of results.cases) printCase(measured, results);
  const directory = join(root, 'bench/results');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, settings.name);
  saveResults(`${file}.json`, results);
  writeFileSync(`${file}.md`, markdown(results));
  console.log(`\n${results.seconds.toFixed(0)} s; written to ${relative(root, file)}.json and .md`);
  const failures = results.cases.flatMap(({ rounds }) =>
    rounds.filter(({ peer, error }) => peer === 'fdsplice' && error !== undefined),
  );
  if (failures.length > 0) process.exitCode = 1;
}

/** One run of a program through a relay, after a short warm-up run. */
async function measure(peer, server, work) {
  const { run } = work;
  const relay = await startPeer(peer, work, server);
  try {
    await run(relay.port, true);
    const before = sample(relay.pid);
    const { units, seconds, latency } = await run(relay.port, false);
    const used = difference(before, sample(relay.pid));
    return {
      units,
      cpu: used.cpu / units,
      cpuUser: used.user / units,
      cpuSystem: used.system / units,
      rate: units / seconds,
      latency,
      rss: used.rss,
      descriptors: used.descriptors,
    };
  } finally {
    await relay.stop();
  }
}

function readSettings() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      peers: { type: 'string' },
      rounds: { type: 'string', default: '1' },
      seconds: { type: 'string', default: '1' },
      minutes: { type: 'string', default: '5' },
      name: { type: 'string', default: 'independent' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return undefined;
  }
  const number = (name) => {
    const value = Number(values[name]);
    if (!(value >= 1 && value < Infinity)) throw new StepError(`--${name} must be a number from 1`);
    return value;
  };
  return {
    peers: values.peers?.split(',') ?? (values.quick ? ['haproxy-splice', 'pipe'] : undefined),
    only: values.only,
    rounds: Math.floor(number('rounds')),
    duration: number('seconds'),
    minutes: number('minutes'),
    name: values.name,
  };
}

try {
  await runMain(main);
} finally {
  await stopAll();
}
