// A descriptor that is not a regular file (a pipe, a terminal, a socket given as a number) as the end of a flow. A Node
// stream over it would change its flags and take it from its owner. Instead the core moves its bytes into or out of a
// socket pair, and the stream engine uses the other end of the pair.
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { CopySpec } from '../binding.js';
import { type Failure, systemFailure } from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';
import {
  type NativeEnd,
  type NativeOutcome,
  type NativeTransfer,
  openEnd,
  required,
  startNative,
} from '../core/core.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import type { Reader, Writer } from './flow.js';
import { StreamReader } from './reader.js';
import { StreamWriter } from './writer.js';

/** Creates a socket pair: one end for the core, one for Node. */
function pair(): { end: NativeEnd; socket: Socket } {
  const [one = -1, other = -1] = required().socketPair();
  const { end } = openEnd(one, 'a');
  closeSync(one);
  if (end === undefined) throw new Error('no descriptor is left for a socket pair');
  return { end, socket: new Socket({ fd: other, allowHalfOpen: true, readable: true, writable: true }) };
}

const MOVE_OPTIONS = { zeroCopy: true };

function failureIn({ error }: NativeOutcome, side: Side): Failure | undefined {
  if (error?.errno === undefined) return undefined;
  return systemFailure(error.errno, error.syscall ?? '', side);
}

/** A copy in the core between the descriptor and the pair. */
class Carrier {
  readonly transfer: NativeTransfer;
  readonly outcome: Promise<NativeOutcome>;

  constructor(from: NativeEnd, to: NativeEnd, options: CopySpec, ended: (outcome: NativeOutcome) => void) {
    let resolve: (outcome: NativeOutcome) => void = () => {};
    this.outcome = new Promise((settle) => (resolve = settle));
    this.transfer = startNative(
      (core, id) => core.copy(id, from, to, options, MOVE_OPTIONS),
      (outcome) => {
        resolve(outcome);
        ended(outcome);
      },
    );
  }
}

/** Reads from a descriptor that is not a regular file. */
export class BridgeReader implements Reader {
  readonly #side: Side;
  readonly #source: NativeEnd;
  readonly #length: number | undefined;
  readonly #end: NativeEnd;
  readonly #socket: Socket;
  readonly #reader: StreamReader;
  #carrier: Carrier | undefined;
  #ended = false;

  constructor(side: Side, source: NativeEnd, length: number | undefined) {
    this.#side = side;
    this.#source = source;
    this.#length = length;
    ({ end: this.#end, socket: this.#socket } = pair());
    this.#reader = new StreamReader(side, this.#socket, 'handed over');
  }

  /** The socket of the pair ends also when the core's copy fails; only the outcome of that copy shows an end of input. */
  get isAtEnd(): boolean {
    return this.#ended && this.#reader.isAtEnd;
  }

  get isReady(): boolean {
    return this.isAtEnd || (this.#reader.isReady && !this.#reader.isAtEnd);
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    this.#reader.start(wake, fail);
    const options = {
      endDestination: true,
      ...(this.#length === undefined ? {} : { length: this.#length }),
    };
    this.#carrier = new Carrier(this.#source, this.#end, options, (outcome) => {
      const failure = failureIn(outcome, this.#side);
      this.#ended = failure === undefined;
      if (failure === undefined) wake();
      else fail(failure);
    });
  }

  take(limit: number): Buffer | undefined {
    return this.#reader.take(limit);
  }

  async release(rest: Buffer): Promise<Buffer> {
    this.#carrier?.transfer.abort();
    const outcome = await this.#carrier?.outcome;
    if (this.#carrier === undefined) for (const end of [this.#end, this.#source]) end.release();
    const left = [rest];
    // The core has closed its end of the pair, so this loop ends without waiting.
    if (!this.#reader.isAtEnd && this.#carrier !== undefined) {
      for await (const chunk of this.#socket.iterator({ destroyOnReturn: true })) left.push(chunk as Buffer);
    }
    await this.#reader.release(Buffer.alloc(0));
    this.#socket.destroy();
    if (outcome?.error?.undelivered !== undefined) left.push(outcome.error.undelivered);
    return Buffer.concat(left);
  }
}

/** Writes to a descriptor that is not a regular file. */
export class BridgeWriter implements Writer {
  readonly isEnded = false;
  readonly #side: Side;
  readonly #destination: NativeEnd;
  readonly #endDestination: boolean;
  readonly #end: NativeEnd;
  readonly #socket: Socket;
  readonly #writer: StreamWriter;
  #carrier: Carrier | undefined;
  /** Bytes written to the pair that the descriptor itself has not accepted at the last count. */
  readonly #chunks: Buffer[] = [];
  #written = 0;
  #counted = 0;
  #accepted: (bytes: number) => void = () => {};
  #ended: (() => void) | undefined;

  constructor(side: Side, destination: NativeEnd, endDestination: boolean) {
    this.#side = side;
    this.#destination = destination;
    this.#endDestination = endDestination;
    ({ end: this.#end, socket: this.#socket } = pair());
    this.#writer = new StreamWriter(side, this.#socket as WritableLike);
  }

  get isFull(): boolean {
    return this.#writer.isFull;
  }

  get pending(): number {
    return this.#written - this.#counted;
  }

  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void {
    this.#accepted = accepted;
    // The pair accepts bytes before the descriptor does; only those of the descriptor are counted.
    this.#writer.start(wake, () => this.#sync(), fail);
    this.#carrier = new Carrier(
      this.#end,
      this.#destination,
      { endDestination: this.#endDestination },
      (outcome) => {
        this.#sync(outcome.tx);
        const failure = failureIn(outcome, this.#side);
        if (failure === undefined) this.#ended?.();
        else fail(failure);
      },
    );
  }

  /** Counts the bytes that the descriptor has accepted since the last call. */
  #sync(accepted = this.#carrier?.transfer.traffic().tx ?? 0): void {
    let newlyAccepted = accepted - this.#counted;
    if (newlyAccepted <= 0) return;
    this.#counted = accepted;
    this.#accepted(newlyAccepted);
    for (let first = this.#chunks[0]; first !== undefined && newlyAccepted > 0; first = this.#chunks[0]) {
      if (first.length > newlyAccepted) this.#chunks[0] = first.subarray(newlyAccepted);
      else this.#chunks.shift();
      newlyAccepted -= Math.min(newlyAccepted, first.length);
    }
  }

  write(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#written += chunk.length;
    this.#writer.write(chunk);
  }

  finish(_end: boolean, done: () => void): void {
    this.#ended = done;
    this.#writer.finish(true, () => {});
  }

  async release(): Promise<Buffer> {
    this.#carrier?.transfer.abort();
    const outcome = await this.#carrier?.outcome;
    if (this.#carrier === undefined) for (const end of [this.#end, this.#destination]) end.release();
    this.#sync(outcome?.tx);
    await this.#writer.release();
    this.#socket.destroy();
    return Buffer.concat(this.#chunks);
  }
}
