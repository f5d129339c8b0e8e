import { join } from 'node:path';
import { node, versions } from '../install/nodes.mjs';
import { mustRun, root, run } from './run.mjs';
import { AvaTotals } from './totals.mjs';

/** What a behaviour is, whichever engine is behind it. */
const behaviours = [
  'abort',
  'access-log',
  'before-exit',
  'copy',
  'copy-sockets',
  'half-close',
  'hand-over-random',
  'leftovers',
  'look-alikes',
  'progress',
  'random',
  'reset',
  'send-file',
  'server-close',
  'sockets',
  'streams',
  'timeouts',
  'upgrade-body',
];

/** What rests on the inside of Node: how sockets and responses are taken over and given back, workers, processes. */
const insides = [
  'access-log',
  'before-exit',
  'copy-sockets',
  'hand-over',
  'hand-over-random',
  'leftovers',
  'look-alikes',
  'numbers',
  'processes',
  'responses',
  'server-close',
  'sockets',
  'stream-close',
  'streams',
  'upgrade-body',
];

/** The specs on this Node, with whatever engine it gives them. */
export async function runAva(args, env) {
  return runIn('ava', process.execPath, args, env);
}

/** Specs without the core: some, or with `all` every one; `args` say which, and what else ava is told. */
export async function runWithoutCore(args, env, { all }) {
  const selected = args.length > 0 || all ? args : specs(behaviours);
  return [await runIn('stream engine', process.execPath, selected, { ...env, FDSPLICE_ENGINE: 'stream' })];
}

/** Specs on every supported Node line but this one: some, or with `all` every one. */
export async function runOnOtherNodes(args, env, { all }) {
  const selected = args.length > 0 || all ? args : specs(insides);
  const [major] = process.versions.node.split('.');
  const results = [];
  for (const [line, version] of Object.entries(versions)) {
    if (line === major) continue;
    results.push(await runIn(`Node ${version}`, await node(version), selected, env));
  }
  return results;
}

const specs = (names) => names.map((name) => `__test__/**/${name}.spec.ts`);

async function runIn(name, binary, args, env) {
  // The specs start this peer for what Node itself cannot do to a socket.
  await mustRun('cargo', ['build', '--quiet', '-p', 'fdsplice-testpeer']);
  console.log(`\n${name}: ${args.length > 0 ? args.join(' ') : 'all specs'}`);
  const totals = new AvaTotals(name, { hasCore: env.FDSPLICE_ENGINE !== 'stream' });
  const command = [join(root, 'node_modules/ava/entrypoints/cli.mjs'), ...args];
  // On the Linux console ava would draw its marks in ASCII, and they are what is counted.
  const avaEnv = { ...env, TERM: 'dumb' };
  return totals.finish(await run(binary, command, { env: avaEnv, onLine: (line) => totals.add(line) }));
}
