// The cases: arguments of the load, warm-up, unit and title of each.
import { GiB, count, size } from './units.mjs';

/**
 * Each case has the load's arguments, those of its warm-up, and the unit (`per`) of its figures. `units` counts the units in the
 * load's result, `extra` takes further figures from it. `role` is the role of the peers (default: a relay), with its `settings`.
 */

export function bulk(streams, direction, total) {
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

export function pingPong(bytes, connections, seconds) {
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

/** With `reset`, the client ends each connection with a reset, and the work ends when the origin has seen the end of every one. */
export function churn(bytes, total, { reset = false } = {}) {
  const args = (number) => [
    ...['--work', 'churn', '--connections-at-once', '8', '--count', `${number}`, '--size', `${bytes}`],
    ...(reset ? ['--reset'] : []),
  ];
  return {
    work: 'churn',
    name: `churn-${reset ? 'reset-' : ''}${bytes}`,
    title: `connect, ${size(bytes)} each way, ${reset ? 'reset by the client' : 'close'}; 8 at a time`,
    args: args(total),
    warmUp: args(Math.ceil(total / 3)),
    per: 'connection',
    units: (result) => result.count,
  };
}

export function idle(connections, seconds) {
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
export function mixed(connections, bytes, seconds) {
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
export function limited(bytesPerSecond, streams, seconds) {
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

/** The case with its peers run by nobody: the kernel has a quota of pipe memory for every user except root. */
export function asNobody(work) {
  return {
    ...work,
    name: `${work.name}-nobody`,
    title: `${work.title}, as the user nobody`,
    user: 'nobody',
  };
}

/** Ping-pong with ours, with splice alone, and with read and write alone. */
export function crossover(bytes, seconds) {
  return {
    ...pingPong(bytes, 8, seconds),
    work: 'crossover',
    name: `crossover-${bytes}`,
    title: `splice or read and write: messages of ${size(bytes)}, 8 connections`,
  };
}
