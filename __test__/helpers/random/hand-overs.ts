// Runs each hand-over schedule twice, once with a relay and once with `stream.pipeline`, and compares what the peers
// receive byte for byte.
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { relay, type TransferError } from 'fdsplice';

import { until } from '../wait.js';
import {
  BOTH,
  type HandOver,
  MAX_SENT,
  type NodeStep,
  type PeerStep,
  type Side,
  type Step,
} from './hand-over-schedule.js';
import { type Connection, head, type Outer, type Workshop } from './sockets.js';

/** Moves the bytes between two sockets until the end. Resolves with the failure, or null. */
type Mover = (a: Socket, b: Socket, expected: () => [number, number] | undefined) => Promise<Error | null>;

const byRelay: Mover = async (a, b, expected) => {
  const { error, tx, rx, total } = await relay(a, b, { reject: false });
  assert.equal(total, tx + rx);
  assert.ok(a.destroyed && b.destroyed, 'both sockets are destroyed');
  assert.deepEqual([tx, rx], expected() ?? [tx, rx], 'the counts match the relayed bytes');
  return error;
};

const byPipeline: Mover = async (a, b) => {
  const directions = [
    [a, b],
    [b, a],
  ] as const;
  const done = directions.map(async ([from, to]) => {
    // The relay uncorks by itself; pipeline leaves that to its caller.
    while (to.writableCorked > 0) to.uncork();
    if (!to.writableEnded) await pipeline(from, to);
    else await finished(to, { readable: false });
  });
  // Since Node 22, both directions can stay pending for good if a socket is destroyed with bytes in its buffer.
  const destroyed = new Promise<Error>((resolve) => {
    for (const socket of [a, b]) {
      socket.once('close', () => {
        if (!socket.readableEnded || !socket.writableFinished) resolve(new Error('a socket was destroyed'));
      });
    }
  });
  const ended = Promise.all(done).then(
    () => null,
    (error: unknown) => error as Error,
  );
  const failure = await Promise.race([ended, destroyed]);
  // The other direction may wait for a peer that does not read.
  if (failure !== null) for (const socket of [a, b]) socket.destroy();
  return failure;
};

/** Runs one schedule with both movers and compares the outcomes byte for byte. */
export async function runHandOver(make: Workshop, schedule: HandOver): Promise<void> {
  const runs = [];
  for (const mover of [byRelay, byPipeline]) {
    const [first, second] = schedule.transports;
    // Fixed offsets, so that each side sends the same bytes in both runs.
    const made = [await make(first, 0), await make(second, 1 << 20)] as const;
    runs.push(new Run(made, schedule, mover).play());
  }
  const [relayed, piped] = (await Promise.all(runs)) as [Delivered, Delivered];
  for (const side of BOTH) {
    assert.deepEqual(
      relayed.settled.map((each) => each[side].length),
      piped.settled.map((each) => each[side].length),
      'as many bytes arrive before each settle step',
    );
    const [mine, theirs] = [relayed.received[side], piped.received[side]];
    // The length of the cut-off part depends on timing, so only the common prefix is compared.
    const compared = relayed.isCut ? Math.min(mine.length, theirs.length) : Infinity;
    assert.ok(mine.subarray(0, compared).equals(theirs.subarray(0, compared)), `other bytes at ${side}`);
    for (const [at, each] of relayed.settled.entries())
      assert.ok(each[side].equals(piped.settled[at]?.[side] as Buffer), `other bytes at ${side}`);
  }
  if (!relayed.isCut) assert.deepEqual([relayed.error, relayed.sawEnd], [piped.error, piped.sawEnd]);
  else if (relayed.mustFail) assert.notEqual(relayed.error, null, 'a cut transfer reports a failure');
}

interface Delivered {
  received: [Buffer, Buffer];
  /** The received bytes at each settle step, when everything sent had arrived. */
  settled: [Buffer, Buffer][];
  sawEnd: [boolean, boolean];
  error: Error | TransferError | null;
  isCut: boolean;
  mustFail: boolean;
}

/** One run of a schedule with one mover. */
class Run {
  readonly #inner: readonly [Socket, Socket];
  readonly #outer: readonly [Outer, Outer];
  readonly #schedule: HandOver;
  readonly #mover: Mover;
  /** Bytes that Node wrote to each socket. */
  readonly #written: [number, number] = [0, 0];
  /** Bytes that Node read from each socket. */
  readonly #taken: [number, number] = [0, 0];
  readonly #settled: [Buffer, Buffer][] = [];
  #isHandedOver = false;
  /** Whether a step ended the transfer before all bytes were moved. */
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
    // A peer that leaves drops the bytes that it had not yet passed to the kernel.
    const expected = (): [number, number] | undefined =>
      this.#isCut ? undefined : [this.#relayed(0), this.#relayed(1)];
    const moved = this.#mover(a, b, expected);
    for (const step of this.#schedule.during) {
      await this.#step(step);
      // This step alone ends the transfer, regardless of the peers.
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
        this.#peerStep(step);
        return;
      case 'write':
      case 'cork':
      case 'uncork':
      case 'pause':
      case 'destroy':
      case 'half-end in Node':
      case 'intrude':
        this.#nodeStep(step);
    }
  }

  #peerStep(step: PeerStep): void {
    const outer = this.#outer[step.side];
    switch (step.do) {
      case 'send':
        if (outer.issued + step.bytes <= MAX_SENT) outer.send(step.bytes);
        break;
      case 'read':
        outer.socket.resume();
        break;
      case 'stop reading':
        outer.socket.pause();
        break;
      case 'half-end':
        if (!this.#isSpent(step.side)) outer.end();
        break;
      case 'leave':
        this.#cut({ mustFail: false });
        outer.leave();
        break;
    }
  }

  #nodeStep(step: NodeStep): void {
    const inner = this.#inner[step.side];
    const other = this.#outer[step.side === 0 ? 1 : 0];
    // A relay ignores cork and pause. pipeline would wait until its caller undoes them.
    const isLeftAlone = this.#isHandedOver && this.#mover === byPipeline;
    switch (step.do) {
      case 'write':
        this.#write(step.side, step.bytes);
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
        // A caller ends a socket only after it has read the other one to its end.
        if (inner.destroyed || other.issued > 0 || this.#outer[step.side].ended) break;
        other.end();
        inner.end();
        break;
      case 'intrude':
        this.#cut({ mustFail: true });
        // A relay fails on such a write. pipeline would mix the bytes into the stream, so its socket is destroyed.
        if (this.#mover === byRelay) inner.write('from JavaScript');
        else inner.destroy();
        break;
      case 'destroy':
        this.#cut({ mustFail: true });
        inner.destroy();
        break;
    }
  }

  /** Whether an end of the peer would make Node destroy the socket, so that nothing is left to hand over. */
  #isSpent(side: Side): boolean {
    const [inner, outer, taken] = [this.#inner[side], this.#outer[side], this.#taken[side]];
    return !this.#isHandedOver && inner.writableEnded && taken > 0 && taken === outer.issued;
  }

  #write(side: Side, bytes: number): void {
    const inner = this.#inner[side];
    if (inner.writableEnded || inner.destroyed) return;
    inner.write(head(bytes));
    this.#written[side] += bytes;
  }

  /** Reads bytes from a socket as its owner may do, and puts some of them back. */
  async #take({ side, bytes, putBack, by }: Step & { do: 'take' }): Promise<void> {
    const [inner, outer] = [this.#inner[side], this.#outer[side]];
    const there = outer.issued - this.#taken[side];
    // Node destroys a socket that has ended both ways and is read to its end. Nothing would be left to hand over.
    if (this.#isCut || there === 0 || (outer.ended && inner.writableEnded)) return;
    const chunks: Buffer[] = [];
    let left = by === 'listen' ? there : Math.min(bytes, there);
    const keep = (chunk: Buffer) => {
      chunks.push(chunk);
      left -= chunk.length;
    };
    if (by === 'listen') {
      inner.on('data', keep).resume();
      await until(
        'all sent bytes are received by the listener',
        () => left,
        (missing) => missing === 0,
      );
      inner.off('data', keep).pause();
    } else {
      const read = () => {
        // Asked for nothing, Node reads from the system.
        if (inner.readableLength === 0) inner.read(0);
        const chunk = inner.read(Math.min(left, inner.readableLength)) as Buffer | null;
        if (chunk !== null) keep(chunk);
        return left;
      };
      await until('the sent bytes are read', read, (missing) => missing === 0);
    }
    const all = Buffer.concat(chunks);
    // unshift is an error after the end of input, and Node may have read that end by now.
    const back = outer.ended ? 0 : Math.min(putBack, all.length);
    if (back > 0) inner.unshift(all.subarray(all.length - back));
    this.#taken[side] += all.length - back;
  }

  /** Waits until everything sent has arrived. */
  async #settle(): Promise<void> {
    if (this.#isCut) return;
    for (const { socket } of this.#outer) socket.resume();
    const missing = () => BOTH.map((side) => this.#wanted(side) - this.#received()[side].length);
    await until('all sent bytes have arrived', missing, (each) => each.every((bytes) => bytes === 0));
    this.#settled.push(this.#received());
  }

  #cut({ mustFail }: { mustFail: boolean }): void {
    // If both peers have ended, the transfer may already be complete.
    if (mustFail && !this.#isCut) this.#mustFail = !this.#outer.every(({ ended }) => ended);
    this.#isCut = true;
  }

  /** Bytes from this side that the transfer moves. */
  #relayed(from: Side): number {
    return this.#outer[from].issued - this.#taken[from];
  }

  /** Bytes that the peer of this side must receive. */
  #wanted(at: Side): number {
    return this.#written[at] + this.#relayed(at === 0 ? 1 : 0);
  }

  #received(): [Buffer, Buffer] {
    return [this.#outer[0].received, this.#outer[1].received];
  }
}
