// Runs the specs with ava: on this Node, with a debug build of the addon, on the stream engine, on other Node lines.
import { join } from 'node:path';
import { node, versions } from '../install/nodes.mjs';
import { debugAddon } from './debug-addon.mjs';
import { preparePeer } from './prepare.mjs';
import { root, run, StepError } from './run.mjs';
import { allSpecs } from './specs.mjs';
import { AvaTotals } from './totals.mjs';

/**
 * Folders for the debug build: the verbs and the random schedules reach the core's debug assertions and overflow checks.
 * `limits` and `load` are left out, because they measure time and CPU time, and unoptimized code takes more of both.
 */
const DEBUG_FOLDERS = ['copy', 'fuzz', 'relay', 'send-file'];

/** Folders for the stream engine: the behaviour that both engines share. */
const STREAM_FOLDERS = [
  'adapters',
  'cli',
  'connect',
  'copy',
  'fuzz',
  'http',
  'limits',
  'process',
  'relay',
  'send-file',
  'sockets',
  'streams',
  'transfer',
];

/** Folders for the other Node lines: specs that depend on Node's internals, on workers or on processes. */
const NODE_FOLDERS = ['adapters', 'connect', 'http', 'process', 'sockets', 'streams'];

/** Folders whose specs measure time or load: their files run one after the other. */
const TIMED_FOLDERS = ['bench', 'cli', 'examples', 'faults', 'limits', 'load', 'transfer'];
/** The other folders: their files run three at a time, because most of them wait. */
const OTHER_FOLDERS = [
  'adapters',
  'addon',
  'connect',
  'copy',
  'fuzz',
  'http',
  'process',
  'relay',
  'send-file',
  'server',
  'sockets',
  'streams',
];

/** Those of the timed folders that measure time: beside them run only suites that leave them a core. */
const QUIET_FOLDERS = ['limits', 'transfer'];
/** Those of the timed folders that measure CPU time and load: nothing runs beside them. */
const ALONE_FOLDERS = ['load'];

/** The specs on this Node, on the engine that it has. `args` and `all` as in `debugRuns`. */
export function avaRuns(args, env, { all }) {
  const folders = [...OTHER_FOLDERS, ...TIMED_FOLDERS];
  const missing = allSpecs().filter(
    (spec) => !folders.some((folder) => spec.startsWith(`__test__/${folder}/`)),
  );
  if (missing.length > 0)
    throw new StepError(`${missing.join(', ')}: its folder is not in scripts/lib/ava.mjs`);
  return selectedRuns('ava', process.execPath, { args, folders, all }, env);
}

/** Specs with a debug build of the addon. `args` are for ava; without them, some folders or, with `all`, every spec. */
export async function debugRuns(args, env, { all }) {
  const debugEnv = { ...env, ...(await debugAddon()) };
  return selectedRuns('debug build', process.execPath, { args, folders: DEBUG_FOLDERS, all }, debugEnv);
}

/** Specs on the stream engine. `args` and `all` as in `debugRuns`. */
export function streamRuns(args, env, { all }) {
  const streamEnv = { ...env, FDSPLICE_ENGINE: 'stream' };
  return selectedRuns('stream engine', process.execPath, { args, folders: STREAM_FOLDERS, all }, streamEnv);
}

/** Specs on each supported Node line other than this Node's. `args` and `all` as in `debugRuns`. */
export async function otherNodesRuns(args, env, { all }) {
  const [major] = process.versions.node.split('.');
  const runs = [];
  for (const [line, version] of Object.entries(versions)) {
    if (line === major) continue;
    const specs = { args, folders: NODE_FOLDERS, all };
    runs.push(...selectedRuns(`Node ${version}`, await node(version), specs, env));
  }
  return runs;
}

/**
 * The runs of ava with the given specs or, with `all`, every spec; without either, with some folders. Each has a name.
 * `run` resolves with its totals, and prints by `print` if it is given. `company` is as in `runBeside`.
 */
function selectedRuns(name, binary, { args, folders, all }, env) {
  const parts = args.length > 0 || all ? [{ runArgs: args, company: 'none' }] : folderParts(folders);
  return parts.map(({ runArgs, company }) => ({
    name: `${name}: ${runArgs.length > 0 ? runArgs.join(' ') : 'all specs'}`,
    company,
    run: (print) => runIn(name, binary, runArgs, { env, print }),
  }));
}

/** The arguments of each run of ava that the folders need. */
function folderParts(folders) {
  const globs = (names) => names.map((name) => `__test__/${name}/**`);
  const among = (list) => folders.filter((folder) => list.includes(folder));
  const busy = TIMED_FOLDERS.filter((folder) => ![...QUIET_FOLDERS, ...ALONE_FOLDERS].includes(folder));
  return [
    { names: among(OTHER_FOLDERS), options: ['--concurrency=3'], company: 'any' },
    { names: among(busy), options: [], company: 'any' },
    { names: among(QUIET_FOLDERS), options: [], company: 'quiet' },
    { names: among(ALONE_FOLDERS), options: [], company: 'none' },
  ]
    .filter(({ names }) => names.length > 0)
    .map(({ names, options, company }) => ({ company, runArgs: [...options, ...globs(names)] }));
}

async function runIn(name, binary, args, { env, print }) {
  await preparePeer();
  const totals = new AvaTotals(name, { hasCore: env.FDSPLICE_ENGINE !== 'stream' });
  const command = [join(root, 'node_modules/ava/entrypoints/cli.mjs'), ...args];
  // On the Linux console ava would draw its marks in ASCII, and the marks are counted.
  const avaEnv = { ...env, TERM: 'dumb' };
  const onLine = (line) => totals.add(line);
  return totals.finish(await run(binary, command, { env: avaEnv, onLine, print }));
}
