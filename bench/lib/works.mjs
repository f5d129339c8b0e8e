// The works and their cases: arguments of the load, warm-up, unit and title of each.
import { StepError } from '../../scripts/lib/run.mjs';
import { copies, files } from './file-works.mjs';
import { GiB, MiB, count, size } from './units.mjs';

/**
 * The works. Each case has the load's arguments, those of its warm-up, and the unit (`per`) of its figures. `units` counts the units
 * in the load's result, `extra` takes further figures from it. `role` is the role of the peers (default: a relay), with its
 * `settings`.
 */
export const workNames = [
  ...['bulk', 'pingpong', 'churn', 'idle', 'mixed'],
  ...['limited', 'crossover', 'files', 'copies'],
];

export function chooseCases({ quick, works, only, user }) {
  const cases = quick ? quickCases() : fullCases();
  // In all other cases the relays run as the caller, who may be root, or as `--user`.
  if (!quick && !user && process.getuid() === 0) cases.push(...ordinaryCases());
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

/** Cases that may depend on the user: the kernel has a quota of pipe memory for every user except root. */
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
  ].map((work) => ({
    ...work,
    name: `${work.name}-nobody`,
    title: `${work.title}, as the user nobody`,
    user: 'nobody',
  }));
}

function bulk(streams, direction, total) {
  const ways = direction === 'both' ? 2 : 1;
  const each = Math.round(total / streams / ways);
  const args = (bytes) => [
    ...['--work', 'bulk', '--streams', `${streams}`, '--direction', direction],
    ...['--bytes-per-stream', `${Math.ceil(bytes)}`],
  ];
  return {
    work: 'bulk',
    name: `bulk-${streams}-${direction}${total > GiB ? '-long' : ''}`,
    title: `bulk, ${count(streams, 'stream')}, ${direction}, ${size(each)} each${ways === 2 ? ' way' : ''}`,
    args: args(each),
    warmUp: args(each / 4),
    per: 'GiB',
    units: ({ bytes }) => bytes / GiB,
  };
}

function pingPong(bytes, connections, seconds) {
  const args = (time) => [
    ...['--work', 'pingpong', '--connections', `${connections}`, '--size', `${bytes}`],
    ...['--seconds', `${time}`],
  ];
  return {
    work: 'pingpong',
    name: `pingpong-${bytes}-${connections}`,
    title: `ping-pong of ${size(bytes)}, ${count(connections, 'connection')}`,
    args: args(seconds),
    warmUp: args(seconds / 3),
    per: 'round trip',
    units: (result) => result.count,
    size: bytes,
  };
}

function churn(bytes, total) {
  const args = (number) => [
    ...['--work', 'churn', '--connections-at-once', '8', '--count', `${number}`, '--size', `${bytes}`],
  ];
  return {
    work: 'churn',
    name: `churn-${bytes}`,
    title: `connect, ${size(bytes)} each way, close; 8 at a time`,
    args: args(total),
    warmUp: args(Math.ceil(total / 3)),
    per: 'connection',
    units: (result) => result.count,
  };
}

function idle(connections, seconds) {
  return {
    work: 'idle',
    name: `idle-${connections}`,
    title: `${connections} idle connections, one of them making round trips of 64 B`,
    args: [
      ...['--work', 'idle', '--active', '--connections', `${connections}`],
      ...['--seconds', `${seconds}`],
    ],
    // Makes the relay load everything that it loads on first use, so that the growth is that of connections only.
    warmUp: ['--work', 'pingpong', '--connections', '8', '--round-trips', '2000'],
    per: 'round trip',
    units: (result) => result.active.count,
    connections,
    // A process that has done other work before would have other memory.
    fresh: true,
  };
}

/** The amounts are fixed, so that the relays can be compared. */
function mixed(connections, bytes, seconds) {
  const args = (part, time) => [
    ...['--work', 'mixed', '--connections', `${connections}`, '--seconds', `${time}`],
    ...['--bytes-per-stream', `${Math.ceil(part)}`],
  ];
  return {
    work: 'mixed',
    name: `mixed-${connections}`,
    title: `${connections} connections: 95 % small messages, 5 % bulk of ${size(bytes)}, 1 % slow readers; ${seconds} s`,
    args: args(bytes, seconds),
    warmUp: args(bytes / 4, seconds / 3),
    per: 'run',
    units: () => 1,
    extra: (result) => ({ bytesPerSecond: result.bytes / result.seconds }),
  };
}

/** Bulk up: the amount that the limit allows in `seconds`. */
function limited(bytesPerSecond, streams, seconds) {
  return {
    work: 'limited',
    name: `limited-${streams}`,
    title: `limited to ${size(bytesPerSecond)}/s, ${count(streams, 'stream')}, ${seconds} s`,
    role: 'limited',
    settings: { bytesPerSecond, streams },
    args: bulk(streams, 'up', bytesPerSecond * seconds).args,
    warmUp: bulk(streams, 'up', (bytesPerSecond * seconds) / 8).args,
    per: 'GiB',
    units: ({ bytes }) => bytes / GiB,
    extra: ({ bytes, seconds, evenness }) => ({ ofLimit: bytes / seconds / bytesPerSecond, evenness }),
  };
}

/** Ping-pong with ours, with splice alone, and with read and write alone. */
function crossover(bytes, seconds) {
  return {
    ...pingPong(bytes, 8, seconds),
    work: 'crossover',
    name: `crossover-${bytes}`,
    title: `splice or read and write: messages of ${size(bytes)}, 8 connections`,
  };
}
