// Random schedules of a hand-over: what happens to two sockets and their peers before and during a relay between them.
import fc from 'fast-check';

import type { Transport } from '../pair.js';

export type Side = 0 | 1;
export const BOTH = [0, 1] as const;
/** The most bytes that one peer sends, because its data comes from a buffer of 8 MiB. */
export const MAX_SENT = 6 << 20;

/** Steps of a peer. */
export type PeerStep =
  | { do: 'send'; side: Side; bytes: number }
  | { do: 'read' | 'stop reading' | 'half-end' | 'leave'; side: Side };

/** Steps of the Node socket that is relayed. */
export type NodeStep =
  | { do: 'write'; side: Side; bytes: number }
  | { do: 'cork' | 'uncork' | 'pause' | 'destroy' | 'half-end in Node' | 'intrude'; side: Side };

export type Step =
  | PeerStep
  | NodeStep
  | { do: 'take'; side: Side; bytes: number; putBack: number; by: 'read' | 'listen' }
  | { do: 'tick' | 'turn' | 'settle' }
  | { do: 'wait'; ms: number };

export interface HandOver {
  transports: [Transport, Transport];
  /** Steps before the call, while the gateway still owns the sockets. */
  before: Step[];
  /** Steps after the call. The hand-over may not be complete at first. */
  during: Step[];
}

const side = fc.constantFrom<Side>(0, 1);
const size = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 2000 }) },
  { weight: 3, arbitrary: fc.integer({ min: 2000, max: 100_000 }) },
  // More than the socket buffers hold: the hand-over must wait for such a write.
  { weight: 1, arbitrary: fc.integer({ min: 2 << 20, max: 4 << 20 }) },
);
const doing = <T extends string>(weight: number, step: T) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant(step), side }),
});
const sending = <T extends string>(weight: number, step: T) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant(step), side, bytes: size }),
});
const waiting = (weight: number) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(3) }),
});

const before: fc.Arbitrary<Step> = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  sending(6, 'send'),
  sending(6, 'write'),
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('take' as const),
      side,
      bytes: size,
      putBack: fc.oneof(fc.constant(0), fc.nat(3000)),
      by: fc.constantFrom('read', 'listen'),
    }),
  },
  doing(3, 'cork'),
  doing(1, 'uncork'),
  doing(2, 'pause'),
  doing(2, 'read'),
  doing(2, 'half-end'),
  doing(1, 'half-end in Node'),
  { weight: 1, arbitrary: fc.oneof(doing(1, 'leave'), doing(1, 'destroy')) },
  waiting(3),
);

const during: fc.Arbitrary<Step> = fc.oneof<fc.WeightedArbitrary<Step>[]>(
  sending(10, 'send'),
  doing(4, 'read'),
  doing(2, 'stop reading'),
  doing(2, 'cork'),
  doing(2, 'pause'),
  doing(3, 'half-end'),
  doing(1, 'intrude'),
  doing(1, 'leave'),
  doing(1, 'destroy'),
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tick' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const) }) },
  waiting(4),
);

const transport = fc.constantFrom<Transport>('tcp', 'tcp', 'unix');

export const handOver: fc.Arbitrary<HandOver> = fc.record({
  transports: fc.tuple(transport, transport),
  before: fc.array(before, { maxLength: 10 }),
  during: fc.array(during, { maxLength: 12 }),
});
