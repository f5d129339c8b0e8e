// The command line of the benchmark: usage, checks and defaults.
import { parseArgs } from 'node:util';
import { StepError } from '../../scripts/lib/run.mjs';
import { sets } from './sets.mjs';
import { workNames } from './works.mjs';

const usage = `node bench/run.mjs [options]

  --quick          one or two cases of each work, small amounts; on a slow machine fewer rounds: under three minutes
  --work a,b       only these works: ${workNames.join(', ')}
  --only text      only the cases whose name contains this
  --peers a,b      only ours and these peers
  --set name       the cases, peers and bounds that judge one part of the package: ${Object.keys(sets).join(', ')}
  --workers N      threads of every peer that has a number of them (default: each peer's own)
  --rounds N       measured rounds of each case (default 5, quick 3)
  --package dir    measure the package as built in this checkout (default: the one around the benchmark)
  --baseline dir   measure another built checkout as well, to compare before and after
  --user name      run the peers as this user, the load as the caller; without it, a full run by root repeats some cases
                   with the peers run by nobody
  --network which  own: a loopback with the congestion control reno, which takes root (default);
                   machine: that of the machine
  --minutes N      skip rounds that would exceed this time (default 180, quick 2.75)
  --name name      of the result file in bench/results (default: the time)
  --resume         continue the interrupted run of that --name, with its settings
`;

/** The settings of a run; `undefined` after `--help`. */
export function readArguments(args) {
  const values = parse(args);
  if (values.help) {
    console.log(usage);
    return undefined;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new StepError('--rounds must be a whole number above 0');
  if (!['own', 'machine'].includes(values.network)) throw new StepError('--network is own or machine');
  const minutes = Number(values.minutes ?? (values.quick ? 2.75 : 180));
  if (!(minutes > 0 && minutes < Infinity)) throw new StepError('--minutes must be a number above 0');
  if (values.resume && !values.name) throw new StepError('--resume needs the --name of the run to continue');
  const workers = values.workers === undefined ? undefined : Number(values.workers);
  if (workers !== undefined && !(Number.isInteger(workers) && workers > 0)) {
    throw new StepError('--workers must be a whole number above 0');
  }
  const set = chosenSet(values);
  const works = values.work?.split(',') ?? workNames;
  const unknown = works.filter((work) => !workNames.includes(work));
  if (unknown.length > 0) throw new StepError(`--work ${unknown}: there is ${workNames.join(', ')}`);
  return {
    quick: values.quick,
    works,
    only: values.only,
    peers: values.peers?.split(',') ?? set?.peers(workers),
    set: values.set,
    reference: set?.reference,
    workers,
    rounds,
    seconds: minutes * 60,
    checkout: values.package,
    baseline: values.baseline,
    user: values.user,
    network: values.network,
    resume: values.resume,
    name: values.name ?? new Date().toISOString().replaceAll(':', '-').slice(0, 19),
  };
}

function chosenSet({ set, quick }) {
  if (set === undefined) return undefined;
  if (!Object.hasOwn(sets, set))
    throw new StepError(`--set ${set}: there is ${Object.keys(sets).join(', ')}`);
  if (quick) throw new StepError('--set has its own cases: not with --quick');
  return sets[set];
}

function parse(args) {
  try {
    return parseArgs({
      args,
      options: {
        quick: { type: 'boolean', default: false },
        work: { type: 'string' },
        only: { type: 'string' },
        peers: { type: 'string' },
        set: { type: 'string' },
        workers: { type: 'string' },
        rounds: { type: 'string' },
        package: { type: 'string' },
        baseline: { type: 'string' },
        user: { type: 'string' },
        network: { type: 'string', default: 'own' },
        minutes: { type: 'string' },
        name: { type: 'string' },
        resume: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    if (!error.code?.startsWith('ERR_PARSE_ARGS')) throw error;
    throw new StepError(error.message, { cause: error });
  }
}
