// The works, and the choice of cases.
import { StepError } from '../../scripts/lib/run.mjs';
import { asNobody, bulk, churn, crossover, idle, limited, mixed, pingPong } from './cases.mjs';
import { copies, files } from './file-works.mjs';
import { sets } from './sets.mjs';
import { GiB, MiB } from './units.mjs';

export const workNames = [
  ...['bulk', 'pingpong', 'churn', 'idle', 'mixed'],
  ...['limited', 'crossover', 'files', 'copies'],
];

export function chooseCases({ quick, set, works, only, user }) {
  const plain = set === undefined ? { cases: fullCases, ordinaryCases } : sets[set];
  const cases = quick ? quickCases() : plain.cases();
  // In all other cases the relays run as the caller, who may be root, or as `--user`.
  if (!quick && !user && process.getuid() === 0) cases.push(...plain.ordinaryCases().map(asNobody));
  const chosen = cases.filter(({ work, name }) => works.includes(work) && (!only || name.includes(only)));
  if (chosen.length === 0) throw new StepError('no case matches --only');
  return chosen;
}

function quickCases() {
  return [
    bulk(8, 'up', 512 * MiB),
    pingPong(64, 32, 0.5),
    churn(100, 300),
    idle(500, 0.5),
    mixed(100, 32 * MiB, 0.5),
    limited(50 * MiB, 8, 0.5),
    crossover(4096, 0.2),
    crossover(64 * 1024, 0.2),
    files(64 * 1024, 2000),
    copies(MiB, 64),
  ];
}

function fullCases() {
  return [
    ...[1, 8, 100, 400].flatMap((streams) => ['up', 'both'].map((way) => bulk(streams, way, GiB))),
    bulk(8, 'down', GiB),
    // Long enough that the cost of connecting hardly counts.
    bulk(400, 'up', 8 * GiB),
    ...[1, 64, 1024, 16 * 1024, 64 * 1024, 256 * 1024].flatMap((size) =>
      [1, 32, 256].map((connections) => pingPong(size, connections, 1)),
    ),
    pingPong(64, 1000, 5),
    churn(100, 1000),
    churn(100, 1000, { reset: true }),
    churn(10 * 1024, 1000),
    churn(MiB, 200),
    idle(1000, 1),
    idle(4500, 1),
    mixed(100, 128 * MiB, 1),
    mixed(400, 32 * MiB, 1),
    limited(50 * MiB, 8, 2),
    ...[64, 256].map((size) => crossover(size, 0.5)),
    ...[1, 4, 8, 16, 32, 64, 256, 1024].map((size) => crossover(size * 1024, 0.5)),
    files(4096, 5000),
    files(64 * 1024, 4000),
    files(MiB, 500),
    files(GiB, 1),
    files(MiB, 256, { cold: true }),
    files(GiB, 1, { cold: true }),
    copies(4096, 1000),
    copies(64 * 1024, 500),
    copies(MiB, 256),
    copies(GiB, 1),
    copies(GiB, 1, { cold: true }),
  ];
}

/** Cases that may depend on the user. */
function ordinaryCases() {
  return [
    bulk(8, 'up', GiB),
    bulk(100, 'both', GiB),
    bulk(400, 'up', GiB),
    bulk(400, 'up', 8 * GiB),
    pingPong(64 * 1024, 32, 1),
    mixed(400, 32 * MiB, 1),
    files(MiB, 500),
    copies(MiB, 256),
  ];
}
