// Sets: the cases, peers and bounds by which one part of the package is judged in one run.
import { bulk, churn, idle, mixed, pingPong } from './cases.mjs';
import { GiB, KiB, MiB } from './units.mjs';

/**
 * `cases` run as the caller; root runs `ordinaryCases` again with the peers run by nobody. `reference` is the peer that the ratios
 * of the tables refer to. A bound has its cases, a figure of `bounds.mjs`, and the peer that must not exceed `most` times the
 * figure of `against`, or without `against` the number `most`.
 */
export const sets = {
  core: {
    reference: 'fdsplice-rust',
    peers: (workers) => [
      ...['fdsplice-rust', 'fdsplice-rust-owned'],
      ...(workers >= 2 ? ['fdsplice-rust-pinned', 'fdsplice-rust-owned-pinned'] : []),
      ...['tokio-splice2', 'tokio-copy-64', 'haproxy-splice', 'fdsplice', 'pipe'],
    ],
    cases: () => [
      ...coreBulk(),
      mixed(100, 128 * MiB, 1),
      mixed(400, 32 * MiB, 1),
      // The CPU time includes the settling time. With this number, a run of a compiled peer is much longer.
      churn(100, 4000),
      churn(100, 4000, { reset: true }),
      ...[1, 32, 256].map((connections) => pingPong(64, connections, 1)),
      ...[32, 256].map((connections) => pingPong(256 * KiB, connections, 1)),
      idle(1000, 1),
    ],
    ordinaryCases: coreBulk,
    bounds: [
      inRust(['bulk-8-up', 'bulk-100-up'], 1.05, 'tokio-splice2'),
      inRust(['bulk-8-up-nobody', 'bulk-100-up-nobody'], 0.4, 'tokio-splice2'),
      // Needs `--baseline`, the state before.
      { cases: ['mixed-100', 'mixed-400'], figure: 'p99', peer: 'fdsplice', against: 'baseline', most: 1 },
      inRust(['churn-100', 'churn-reset-100'], 0.95, 'haproxy-splice'),
      inRust(['pingpong-64-1', 'pingpong-64-32', 'pingpong-64-256'], 1, 'tokio-copy-64'),
      { cases: ['idle-1000'], figure: 'memory', peer: 'fdsplice-rust', most: 2.5 },
      { cases: ['idle-1000'], figure: 'descriptors', peer: 'fdsplice-rust', most: 2 },
      { cases: ['pingpong-64-32'], figure: 'cpu', peer: 'fdsplice', against: 'pipe', most: 0.6 },
      { cases: ['bulk-8-up'], figure: 'cpu', peer: 'fdsplice', against: 'pipe', most: 0.2 },
      { cases: ['idle-1000'], figure: 'memory', peer: 'fdsplice', against: 'pipe', most: 1 },
    ],
  },
};

function coreBulk() {
  return [bulk(8, 'up', GiB), bulk(100, 'up', GiB)];
}

/** A bound of the CPU time of our relay in Rust. */
function inRust(cases, most, against) {
  return { cases, figure: 'cpu', peer: 'fdsplice-rust', against, most };
}
