// A descriptor that is not a regular file (a pipe, a terminal, a socket given as a number) as the end of a flow. A Node
// stream over it would change its flags and take it from its owner. Instead the core moves its bytes into or out of a
// socket pair, and the stream engine uses the other end of the pair.
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { CopySpec } from '../binding.js';
import { type Failure, internal, refusalFailure, systemFailure } from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';
import {
  type NativeEnd,
  type NativeOutcome,
  type NativeTransfer,
  required,
  startNative,
} from '../core/core.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import type { Reader, Writer } from './flow.js';
import { StreamReader } from './reader.js';
import { StreamWriter } from './writer.js';

/** A socket pair: one end for the core, one for Node. */
interface Pair {
  readonly end: NativeEnd;
  readonly socket: Socket;
}

function makePair(side: Side): Pair | Failure {
  const made = required().socketPair();
  if (!('end' in made)) return refusalFailure(made, side);
  const { end, fd } = made;
  try {
    return { end, socket: new Socket({ fd, allowHalfOpen: true, readable: true, writable: true }) };
  } catch (error) {
    end.release();
    closeSync(fd);
    throw error;
  }
}

const MOVE_OPTIONS = { zeroCopy: true };
const NOTHING = Buffer.alloc(0);

function failureIn({ error }: NativeOutcome, side: Side): Failure | undefined {
  if (error?.reason === 'died') return { ...internal(), side };
  if (error?.errno === undefined) return undefined;
  // The core names no side if the process has no thread or descriptor left.
  const failed = systemFailure(error.errno, error.syscall ?? '', error.side === undefined ? undefined : side);
  // Once one of the two copies has taken the error of a connection, reads of the other return an end. Only the core knows
  // whether the input had ended before.
  return failed.code === 'ECONNRESET' ? { ...failed, afterEnd: error.afterEnd === true } : failed;
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

/**
 * Reports a failure of Node's end of a pair. It also fails when the core closes the other end, and Node may learn of that
 * before the outcome of the core arrives, which has the cause.
 */
async function explain(
  failure: Failure,
  carrier: Carrier | undefined,
  side: Side,
  fail: (failure: Failure) => void,
): Promise<void> {
  const outcome = await carrier?.outcome;
  fail((outcome === undefined ? undefined : failureIn(outcome, side)) ?? failure);
}

/** Reads from a descriptor that is not a regular file. The pair is made when it starts. */
export class BridgeReader implements Reader {
  readonly #side: Side;
  readonly #source: NativeEnd;
  readonly #length: number | undefined;
  #pair: Pair | undefined;
  #reader: StreamReader | undefined;
  #carrier: Carrier | undefined;
  #ended = false;

  constructor(side: Side, source: NativeEnd, length: number | undefined) {
    this.#side = side;
    this.#source = source;
    this.#length = length;
  }

  /** The socket of the pair ends also when the core's copy fails; only the outcome of that copy shows an end of input. */
  get isAtEnd(): boolean {
    return this.#ended && this.#reader?.isAtEnd === true;
  }

  get isReady(): boolean {
    return this.isAtEnd || (this.#reader?.isReady === true && !this.#reader.isAtEnd);
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    const pair = makePair(this.#side);
    if ('code' in pair) {
      fail(pair);
      return;
    }
    this.#pair = pair;
    this.#reader = new StreamReader(this.#side, pair.socket, 'own');
    this.#reader.start(wake, (failure) => void explain(failure, this.#carrier, this.#side, fail));
    const options = {
      endDestination: true,
      ...(this.#length === undefined ? {} : { length: this.#length }),
    };
    this.#carrier = new Carrier(this.#source, pair.end, options, (outcome) => {
      const failure = failureIn(outcome, this.#side);
      this.#ended = failure === undefined;
      if (failure === undefined) wake();
      else fail(failure);
    });
  }

  take(limit: number): Buffer | undefined {
    return this.#reader?.take(limit);
  }

  async release(rest: Buffer): Promise<Buffer> {
    const socket = this.#pair?.socket;
    const left = [rest];
    try {
      if (this.#carrier === undefined) {
        this.#pair?.end.release();
        this.#source.release();
      } else {
        this.#carrier.transfer.abort();
        const { error } = await this.#carrier.outcome;
        // The core has closed its end of the pair, so this loop ends without waiting.
        if (socket !== undefined && this.#reader?.isAtEnd === false) {
          for await (const chunk of socket.iterator({ destroyOnReturn: true })) left.push(chunk as Buffer);
        }
        if (error?.undelivered !== undefined) left.push(error.undelivered);
      }
      await this.#reader?.release(NOTHING);
    } finally {
      socket?.destroy();
    }
    return Buffer.concat(left);
  }
}

/** Writes to a descriptor that is not a regular file. The pair is made when it starts. */
export class BridgeWriter implements Writer {
  readonly isEnded = false;
  readonly #side: Side;
  readonly #destination: NativeEnd | Failure;
  readonly #endDestination: boolean;
  #pair: Pair | undefined;
  #writer: StreamWriter | undefined;
  #carrier: Carrier | undefined;
  /** Bytes written to the pair that the descriptor itself has not accepted at the last count. */
  readonly #chunks: Buffer[] = [];
  #written = 0;
  #counted = 0;
  #accepted: (bytes: number) => void = () => {};
  #ended: (() => void) | undefined;

  /** `destination` is the reason where there is no descriptor; it is reported at the start. */
  constructor(side: Side, destination: NativeEnd | Failure, endDestination: boolean) {
    this.#side = side;
    this.#destination = destination;
    this.#endDestination = endDestination;
  }

  get isFull(): boolean {
    return this.#writer?.isFull === true;
  }

  get pending(): number {
    return this.#written - this.#counted;
  }

  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void {
    const destination = this.#destination;
    const pair = 'code' in destination ? destination : makePair(this.#side);
    if ('code' in destination || 'code' in pair) {
      fail(pair as Failure);
      return;
    }
    this.#pair = pair;
    this.#accepted = accepted;
    this.#writer = new StreamWriter(this.#side, pair.socket as WritableLike);
    // The pair accepts bytes before the descriptor does; only those of the descriptor are counted.
    this.#writer.start(
      wake,
      () => this.#sync(),
      (failure) => void explain(failure, this.#carrier, this.#side, fail),
    );
    const options = { endDestination: this.#endDestination };
    this.#carrier = new Carrier(pair.end, destination, options, (outcome) => {
      this.#sync(outcome.tx);
      const failure = failureIn(outcome, this.#side);
      if (failure === undefined) this.#ended?.();
      else fail(failure);
    });
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
    this.#writer?.write(chunk);
  }

  finish(_end: boolean, done: () => void): void {
    this.#ended = done;
    this.#writer?.finish(true, () => {});
  }

  async release(): Promise<Buffer> {
    const destination = this.#destination;
    try {
      if (this.#carrier === undefined) {
        this.#pair?.end.release();
        if (!('code' in destination)) destination.release();
      } else {
        this.#carrier.transfer.abort();
        this.#sync((await this.#carrier.outcome).tx);
      }
      await this.#writer?.release();
    } finally {
      this.#pair?.socket.destroy();
    }
    return Buffer.concat(this.#chunks);
  }
}
