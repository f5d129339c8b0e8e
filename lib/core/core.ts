// The transfers of the core: it opens their ends, starts them, and settles them when their outcomes arrive.

import type { Dispatcher, NativeEnd, NativeFailure, NativeRateLimiter, Refusal } from '../binding.js';
import { nextTick } from '../contract/clock.js';
import { createLimitsWith } from '../contract/rate-limiter.js';
import { TokenBucket } from '../contract/token-bucket.js';
import type { Side } from '../contract/traffic.js';
import { binding, reason, required, setProbe } from './addon.js';
import { nativeFiles } from './core-file.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';
import { decodeBatch, type NativeOutcome } from './outcome.js';

export { binding, reason, required, setProbe };
export type { NativeEnd, NativeOutcome, NativeRateLimiter };

// The limiters of the core serve transfers on streams too, so where there is a core, every limiter is one of its own.
createLimitsWith((bytesPerSecond, burst) => {
  const core = binding();
  return core === undefined
    ? new TokenBucket(bytesPerSecond, burst)
    : new core.NativeRateLimiter(bytesPerSecond, burst);
});

/** A transfer in the core, which identifies it by a number. */
export class NativeTransfer {
  readonly #id: number;

  constructor(id: number) {
    this.#id = id;
  }

  traffic(): { tx: number; rx: number } {
    return dispatch().traffic(this.#id);
  }

  /** Milliseconds since it moved bytes; `Infinity` when it has moved none. */
  idleMs(): number {
    return dispatch().idleMs(this.#id);
  }

  abort(): void {
    dispatch().abort(this.#id);
  }

  /** Ends one end of a relay before the other one has ended. */
  end(side: Side): void {
    dispatch().end(this.#id, side === 'b');
  }
}

/** Receives the outcome of a transfer: a function, or an object with a method, so that no closure has to be created. */
export type Receiver = ((outcome: NativeOutcome) => void) | { settled(outcome: NativeOutcome): void };

/**
 * The receiver of each running transfer, by its number. The registry of transfers is in the binding
 * (crates/fdsplice-node/src/registry.rs). Only the receivers are here: the binding could hold one only through a
 * reference, which would have to be made and released for every transfer.
 */
const receivers = new Map<number, Receiver>();
let lastId = 0;
let dispatcher: Dispatcher | undefined;

/** Duplicates a descriptor for a transfer. Returns a refusal when it cannot be that end of a transfer. */
export function openEnd(
  fd: number,
  side: Side,
  isNodeTcp = false,
): { end: NativeEnd } | { end: undefined; refusal: Refusal } {
  const native = required();
  const opened = native.openEnd(fd, side, isNodeTcp);
  return opened instanceof native.NativeEnd ? { end: opened } : { end: undefined, refusal: opened };
}

/** Whether two ends are one socket or one pipe. */
export function isSame(one: NativeEnd, other: NativeEnd): boolean {
  return required().isSame(one, other);
}

/** Starts a transfer in the core, and calls `receiver` on this thread when it has ended. */
export function startNative(
  begin: (dispatcher: Dispatcher, id: number) => void,
  receiver: Receiver,
): NativeTransfer {
  const id = nextId();
  begin(dispatch(), id);
  receivers.set(id, receiver);
  keepProcessAlive();
  return new NativeTransfer(id);
}

function nextId(): number {
  do {
    lastId = (lastId + 1) % 2 ** 32;
  } while (receivers.has(lastId));
  return lastId;
}

function dispatch(): Dispatcher {
  if (dispatcher !== undefined) return dispatcher;
  const created = new (required().Dispatcher)(deliver, nativeFiles());
  dispatcher = created;
  // process.exit() stops the threads of the core at once, so running transfers are reset before.
  process.on('exit', () => created.abortAll());
  return created;
}

function deliver(numbers: number[], failures: NativeFailure[]): void {
  decodeBatch(numbers, failures, settle);
  dispatcher?.forgetDelivered();
}

function settle(id: number, outcome: NativeOutcome): void {
  const receiver = receivers.get(id);
  if (receivers.delete(id)) letProcessEnd();
  try {
    if (typeof receiver === 'function') receiver(outcome);
    else receiver?.settled(outcome);
  } catch (error) {
    // An uncaught exception, as from any callback of Node, but after the rest of the batch.
    nextTick(() => {
      throw error;
    });
  }
}
