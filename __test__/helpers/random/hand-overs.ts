// Random sockets in every state, handed over to a relay and, the same again, to `stream.pipeline`: what arrives is compared.
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import fc from 'fast-check';
import { relay, type TransferError } from 'fdsplice';

import type { Transport } from '../pair.js';
import { until } from '../wait.js';
import { type Connection, head, type Outer, type Workshop } from './sockets.js';

type Who = 0 | 1;
const BOTH = [0, 1] as const;
/** What one peer sends at most: its bytes come out of a few MiB. */
const MOST = 6 << 20;

type OfPeer =
  { do: 'send'; who: Who; bytes: number } | { do: 'read' | 'stop reading' | 'half-end' | 'leave'; who: Who };

type OfNode =
  | { do: 'write'; who: Who; bytes: number }
  | { do: 'cork' | 'uncork' | 'pause' | 'destroy' | 'half-end in Node' | 'intrude'; who: Who };

type Step =
  | OfPeer
  | OfNode
  | { do: 'take'; who: Who; bytes: number; putBack: number; how: 'read' | 'listen' }
  | { do: 'tick' | 'turn' | 'settle' }
  | { do: 'wait'; ms: number };

export interface HandOver {
  transports: [Transport, Transport];
  /** While the sockets are still the gateway's. */
  before: Step[];
  /** From the call on: at first the hand-over is still under way. */
  during: Step[];
}

const who = fc.constantFrom<Who>(0, 1);
const size = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 2000 }) },
  { weight: 3, arbitrary: fc.integer({ min: 2000, max: 100_000 }) },
  // More than the buffers of the system take: the hand-over has to wait for it.
  { weight: 1, arbitrary: fc.integer({ min: 2 << 20, max: 4 << 20 }) },
);
const doing = <T extends string>(weight: number, what: T) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant(what), who }),
});
const sending = <T extends string>(weight: number, what: T) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant(what), who, bytes: size }),
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
      who,
      bytes: size,
      putBack: fc.oneof(fc.constant(0), fc.nat(3000)),
      how: fc.constantFrom('read', 'listen'),
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

/** Who moves the bytes once both sockets are handed over; resolves with how that ended. */
type Mover = (a: Socket, b: Socket, expected: () => [number, number] | undefined) => Promise<Error | null>;

const byRelay: Mover = async (a, b, expected) => {
  const { error, tx, rx, total } = await relay(a, b, { reject: false });
  assert.equal(total, tx + rx);
  assert.ok(a.destroyed && b.destroyed, 'both sockets are destroyed');
  assert.deepEqual([tx, rx], expected() ?? [tx, rx], 'what was relayed is what is counted');
  return error;
};

const byPipeline: Mover = async (a, b) => {
  const ways = [
    [a, b],
    [b, a],
  ] as const;
  const done = ways.map(async ([from, to]) => {
    // The relay does by itself what pipeline leaves to its caller.
    while (to.writableCorked > 0) to.uncork();
    if (!to.writableEnded) await pipeline(from, to);
    else await finished(to, { readable: false });
  });
  const failure = await Promise.all(done).then(
    () => null,
    (error: unknown) => error as Error,
  );
  // The other way may wait for a peer that does not read. Since Node 22 it can also never settle, when what it reads
  // from is destroyed with bytes in its buffer.
  if (failure !== null) for (const socket of [a, b]) socket.destroy();
  return failure;
};

/** Runs one schedule both ways, and compares byte for byte. */
export async function runHandOver(make: Workshop, schedule: HandOver): Promise<void> {
  const runs = [];
  for (const mover of [byRelay, byPipeline]) {
    const [first, second] = schedule.transports;
    // The same bytes from the same side.
    const made = [await make(first, 0), await make(second, 1 << 20)] as const;
    runs.push(new Run(made, schedule, mover).play());
  }
  const [relayed, piped] = (await Promise.all(runs)) as [Delivered, Delivered];
  for (const side of BOTH) {
    assert.deepEqual(
      relayed.settled.map((each) => each[side].length),
      piped.settled.map((each) => each[side].length),
      'as much arrives before it is quiet',
    );
    const [mine, theirs] = [relayed.received[side], piped.received[side]];
    // What a failure cuts off depends on how far either had come.
    const compared = relayed.isCut ? Math.min(mine.length, theirs.length) : Infinity;
    assert.ok(mine.subarray(0, compared).equals(theirs.subarray(0, compared)), `other bytes at ${side}`);
    for (const [at, each] of relayed.settled.entries())
      assert.ok(each[side].equals(piped.settled[at]?.[side] as Buffer), `other bytes at ${side}`);
  }
  if (!relayed.isCut) assert.deepEqual([relayed.error, relayed.sawEnd], [piped.error, piped.sawEnd]);
  else if (relayed.mustFail) assert.notEqual(relayed.error, null, 'it does not look complete');
}

interface Delivered {
  received: [Buffer, Buffer];
  /** The same at each point where everything had arrived. */
  settled: [Buffer, Buffer][];
  sawEnd: [boolean, boolean];
  error: Error | TransferError | null;
  isCut: boolean;
  mustFail: boolean;
}

/** One schedule with one mover. */
class Run {
  readonly #inner: readonly [Socket, Socket];
  readonly #outer: readonly [Outer, Outer];
  readonly #schedule: HandOver;
  readonly #mover: Mover;
  /** Bytes that Node wrote to each socket, and that it took out of each. */
  readonly #written: [number, number] = [0, 0];
  readonly #taken: [number, number] = [0, 0];
  readonly #settled: [Buffer, Buffer][] = [];
  #isHandedOver = false;
  #isCut = false;
  #mustFail = false;

  constructor(made: readonly [Connection, Connection], schedule: HandOver, mover: Mover) {
    this.#inner = [made[0].inner, made[1].inner];
    this.#outer = [made[0].outer, made[1].outer];
    this.#schedule = schedule;
    this.#mover = mover;
    for (const inner of this.#inner) inner.on('error', () => undefined);
  }

  async play(): Promise<Delivered> {
    for (const step of this.#schedule.before) await this.#step(step);
    const [a, b] = this.#inner;
    this.#isHandedOver = true;
    // Who leaves takes along what it had not handed to the system yet.
    const expected = (): [number, number] | undefined =>
      this.#isCut ? undefined : [this.#relayed(0), this.#relayed(1)];
    const moved = this.#mover(a, b, expected);
    for (const step of this.#schedule.during) {
      await this.#step(step);
      // It ends by that alone, whatever its peers do.
      if (step.do === 'destroy' || step.do === 'intrude') await moved;
    }
    for (const outer of this.#outer) outer.end();
    const drained = Promise.all(this.#outer.map((outer) => outer.drain()));
    const error = await moved;
    if (this.#mover === byPipeline && error === null) await drained;
    for (const inner of this.#inner) inner.destroy();
    await drained;
    for (const { socket } of this.#outer) socket.destroy();
    const received = this.#received();
    const sawEnd: [boolean, boolean] = [this.#outer[0].sawEnd, this.#outer[1].sawEnd];
    const { isCut, mustFail } = { isCut: this.#isCut, mustFail: this.#mustFail };
    return { received, settled: this.#settled, sawEnd, error, isCut, mustFail };
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'wait':
        return void (await sleep(step.ms));
      case 'tick':
        return new Promise((resolve) => process.nextTick(resolve));
      case 'turn':
        return new Promise((resolve) => setImmediate(resolve));
      case 'settle':
        return this.#settle();
      case 'take':
        return this.#take(step);
      case 'send':
      case 'read':
      case 'stop reading':
      case 'half-end':
      case 'leave':
        this.#ofPeer(step);
        return;
      case 'write':
      case 'cork':
      case 'uncork':
      case 'pause':
      case 'destroy':
      case 'half-end in Node':
      case 'intrude':
        this.#ofNode(step);
    }
  }

  #ofPeer(step: OfPeer): void {
    const outer = this.#outer[step.who];
    switch (step.do) {
      case 'send':
        if (outer.issued + step.bytes <= MOST) outer.send(step.bytes);
        break;
      case 'read':
        outer.socket.resume();
        break;
      case 'stop reading':
        outer.socket.pause();
        break;
      case 'half-end':
        if (!this.#isSpent(step.who)) outer.end();
        break;
      case 'leave':
        this.#cut({ mustFail: false });
        outer.leave();
        break;
    }
  }

  #ofNode(step: OfNode): void {
    const inner = this.#inner[step.who];
    const other = this.#outer[step.who === 0 ? 1 : 0];
    // To a socket in a relay it does nothing; pipeline would wait until its caller takes it back.
    const isLeftAlone = this.#isHandedOver && this.#mover === byPipeline;
    switch (step.do) {
      case 'write':
        this.#write(step.who, step.bytes);
        break;
      case 'cork':
        if (isLeftAlone) break;
        inner.cork();
        break;
      case 'uncork':
        inner.uncork();
        break;
      case 'pause':
        if (isLeftAlone) break;
        inner.pause();
        break;
      case 'half-end in Node':
        // Who ends a socket has seen the end of the other one, and has nothing of it left to deliver.
        if (inner.destroyed || other.issued > 0 || this.#outer[step.who].ended) break;
        other.end();
        inner.end();
        break;
      case 'intrude':
        this.#cut({ mustFail: true });
        // A relay refuses it; bytes in the middle of others is what pipeline would make of it.
        if (this.#mover === byRelay) inner.write('from JavaScript');
        else inner.destroy();
        break;
      case 'destroy':
        this.#cut({ mustFail: true });
        inner.destroy();
        break;
    }
  }

  /** Whether Node, which reads from it, would destroy it at the end of its peer: nothing is left to hand over. */
  #isSpent(who: Who): boolean {
    const [inner, outer, taken] = [this.#inner[who], this.#outer[who], this.#taken[who]];
    return !this.#isHandedOver && inner.writableEnded && taken > 0 && taken === outer.issued;
  }

  #write(who: Who, bytes: number): void {
    const inner = this.#inner[who];
    if (inner.writableEnded || inner.destroyed) return;
    inner.write(head(bytes));
    this.#written[who] += bytes;
  }

  /** Takes bytes out of a socket as its owner may, and puts some of them back. */
  async #take({ who, bytes, putBack, how }: Step & { do: 'take' }): Promise<void> {
    const [inner, outer] = [this.#inner[who], this.#outer[who]];
    const there = outer.issued - this.#taken[who];
    // Node destroys what has ended both ways and been read to its end: nothing is left to hand over.
    if (this.#isCut || there === 0 || (outer.ended && inner.writableEnded)) return;
    const got: Buffer[] = [];
    let left = how === 'listen' ? there : Math.min(bytes, there);
    const took = (chunk: Buffer) => {
      got.push(chunk);
      left -= chunk.length;
    };
    if (how === 'listen') {
      inner.on('data', took).resume();
      await until(
        'what was sent is heard',
        () => left,
        (missing) => missing === 0,
      );
      inner.off('data', took).pause();
    } else {
      const read = () => {
        // Asked for nothing, Node reads from the system.
        if (inner.readableLength === 0) inner.read(0);
        const chunk = inner.read(Math.min(left, inner.readableLength)) as Buffer | null;
        if (chunk !== null) took(chunk);
        return left;
      };
      await until('what was sent is read', read, (missing) => missing === 0);
    }
    const all = Buffer.concat(got);
    // Nothing goes back behind an end, and Node may have seen that of the peer by now.
    const back = outer.ended ? 0 : Math.min(putBack, all.length);
    if (back > 0) inner.unshift(all.subarray(all.length - back));
    this.#taken[who] += all.length - back;
  }

  /** Waits until everything that is on its way has arrived. */
  async #settle(): Promise<void> {
    if (this.#isCut) return;
    for (const { socket } of this.#outer) socket.resume();
    const missing = () => BOTH.map((side) => this.#wanted(side) - this.#received()[side].length);
    await until('what was sent has arrived', missing, (each) => each.every((bytes) => bytes === 0));
    this.#settled.push(this.#received());
  }

  #cut({ mustFail }: { mustFail: boolean }): void {
    // Behind both ends the transfer may be over.
    if (mustFail && !this.#isCut) this.#mustFail = !this.#outer.every(({ ended }) => ended);
    this.#isCut = true;
  }

  /** Bytes that are moved from this side once it is handed over. */
  #relayed(from: Who): number {
    return this.#outer[from].issued - this.#taken[from];
  }

  /** Bytes that are to arrive at the peer of this side. */
  #wanted(at: Who): number {
    return this.#written[at] + this.#relayed(at === 0 ? 1 : 0);
  }

  #received(): [Buffer, Buffer] {
    return [this.#outer[0].received, this.#outer[1].received];
  }
}
