import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { CopySpec } from '../binding.js';
import { type Failure, systemFailure } from '../contract/errors.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { type NativeEnd, type NativeTransfer, openEnd, type Outcome, required, start } from '../core/core.js';
import type { Side } from '../contract/types.js';
import type { Reader, Writer } from './flow.js';
import { StreamReader } from './reader.js';
import { StreamWriter } from './writer.js';

// A descriptor that is no regular file (a pipe, a terminal, a socket given as a number) has no stream in Node that
// would leave its flags and its owner alone. The core moves its bytes into or out of a socket pair, whose other end is a
// stream.

/** The core's end of a new pair, and Node's. */
function pair(): { end: NativeEnd; socket: Socket } {
  const [one = -1, other = -1] = required().socketPair();
  const { end } = openEnd(one, 'a');
  closeSync(one);
  if (end === undefined) throw new Error('no descriptor is left for a socket pair');
  return { end, socket: new Socket({ fd: other, allowHalfOpen: true, readable: true, writable: true }) };
}

const HOW = { zeroCopy: true };

function failureIn({ error }: Outcome, side: Side): Failure | undefined {
  if (error?.errno === undefined) return undefined;
  return systemFailure(error.errno, error.syscall ?? '', side);
}

/** Resolves with what a transfer of the core ended with. */
class Carrier {
  readonly transfer: NativeTransfer;
  readonly outcome: Promise<Outcome>;

  constructor(from: NativeEnd, to: NativeEnd, what: CopySpec, ended: (outcome: Outcome) => void) {
    let resolve: (outcome: Outcome) => void = () => {};
    this.outcome = new Promise((settle) => (resolve = settle));
    this.transfer = start(
      (core, id) => core.copy(id, from, to, what, HOW),
      (outcome) => {
        resolve(outcome);
        ended(outcome);
      },
    );
  }
}

/** Reads from a descriptor that is no regular file. */
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

  /** The socket ends whatever ended the core's part: only its outcome tells whether that was the end of input. */
  get isAtEnd(): boolean {
    return this.#ended && this.#reader.isAtEnd;
  }

  get isReady(): boolean {
    return this.isAtEnd || (this.#reader.isReady && !this.#reader.isAtEnd);
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    this.#reader.start(wake, fail);
    const what = {
      endDestination: true,
      ...(this.#length === undefined ? {} : { length: this.#length }),
    };
    this.#carrier = new Carrier(this.#source, this.#end, what, (outcome) => {
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
    // The core has let go of its end, so this comes to an end at once.
    if (!this.#reader.isAtEnd && this.#carrier !== undefined) {
      for await (const chunk of this.#socket.iterator({ destroyOnReturn: true })) left.push(chunk as Buffer);
    }
    await this.#reader.release(Buffer.alloc(0));
    this.#socket.destroy();
    if (outcome?.error?.undelivered !== undefined) left.push(outcome.error.undelivered);
    return Buffer.concat(left);
  }
}

/** Writes to a descriptor that is no regular file. */
export class BridgeWriter implements Writer {
  readonly isEnded = false;
  readonly #side: Side;
  readonly #destination: NativeEnd;
  readonly #endDestination: boolean;
  readonly #end: NativeEnd;
  readonly #socket: Socket;
  readonly #writer: StreamWriter;
  #carrier: Carrier | undefined;
  /** Handed over and not accepted by the descriptor itself, as far as is known. */
  readonly #chunks: Buffer[] = [];
  #written = 0;
  #told = 0;
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
    return this.#written - this.#told;
  }

  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void {
    this.#accepted = accepted;
    // The socket takes bytes before the descriptor has: only its side of the pair counts.
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

  /** Counts what the descriptor has accepted since. */
  #sync(accepted = this.#carrier?.transfer.traffic().tx ?? 0): void {
    let fresh = accepted - this.#told;
    if (fresh <= 0) return;
    this.#told = accepted;
    this.#accepted(fresh);
    for (let first = this.#chunks[0]; first !== undefined && fresh > 0; first = this.#chunks[0]) {
      if (first.length > fresh) this.#chunks[0] = first.subarray(fresh);
      else this.#chunks.shift();
      fresh -= Math.min(fresh, first.length);
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
