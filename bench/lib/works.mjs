import { StepError } from '../../scripts/lib/run.mjs';

const MiB = 2 ** 20;
const GiB = 2 ** 30;

/**
 * What is measured. Each case: the load's arguments, those of its warm-up, and in which unit (`per`) the use of a run is
 * told, as `units` counts them in the load's result.
 */
export const workNames = ['bulk', 'pingpong', 'churn', 'idle'];

export function chooseCases({ quick, works, only }) {
  const cases = quick ? quickCases() : fullCases();
  const chosen = cases.filter(({ work, name }) => works.includes(work) && (!only || name.includes(only)));
  if (chosen.length === 0) throw new StepError('no case has such a name');
  return chosen;
}

function quickCases() {
  return [bulk(8, 'up', 512 * MiB), pingPong(64, 32, 0.5), churn(100, 300), idle(500, 0.5)];
}

function fullCases() {
  return [
    bulk(1, 'up', GiB),
    bulk(8, 'up', GiB),
    bulk(100, 'up', GiB),
    bulk(400, 'up', GiB),
    bulk(8, 'down', GiB),
    bulk(8, 'both', GiB),
    ...[1, 32].flatMap((connections) => [64, 1024].map((size) => pingPong(size, connections, 1))),
    ...[16, 64, 256].map((size) => pingPong(size * 1024, 8, 1)),
    pingPong(64, 256, 1),
    churn(100, 1000),
    churn(10 * 1024, 1000),
    churn(MiB, 200),
    idle(1000, 1),
    idle(3000, 1),
    idle(4500, 1),
  ];
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
    name: `bulk-${streams}-${direction}`,
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
    // Makes the relay load whatever it loads on first use, so that memory is told of connections only.
    warmUp: ['--work', 'pingpong', '--connections', '8', '--round-trips', '2000'],
    per: 'round trip',
    units: (result) => result.active.count,
    connections,
    // The memory of a process that had other work to do says nothing about this one.
    fresh: true,
  };
}

function size(bytes) {
  if (bytes >= MiB && bytes % MiB === 0) return `${bytes / MiB} MiB`;
  if (bytes >= MiB) return `${(bytes / MiB).toFixed(1)} MiB`;
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
