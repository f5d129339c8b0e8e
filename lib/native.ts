import type { Dispatcher, Failure, NativeEnd, NativeRateLimiter, Refusal } from './binding.js';
import { unavailable } from './errors.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';
import { type Binding, loadBinding } from './loader.js';
import type { Side } from './types.js';

export type { NativeEnd, NativeRateLimiter };

/** How a transfer in the core ended. */
export interface Outcome {
  tx: number;
  rx: number;
  zeroCopy: number;
  /** Whether the source, or `a`, was read to its end. */
  aEnded: boolean;
  bEnded: boolean;
  /** Absent after a clean end. */
  error?: Failure | undefined;
}

/** A transfer in the core, which goes by a number there. */
export class NativeTransfer {
  readonly #dispatcher: Dispatcher;
  readonly #id: number;

  constructor(dispatcher: Dispatcher, id: number) {
    this.#dispatcher = dispatcher;
    this.#id = id;
  }

  traffic(): { tx: number; rx: number } {
    return this.#dispatcher.traffic(this.#id);
  }

  abort(): void {
    this.#dispatcher.abort(this.#id);
  }
}

/** The binding, if there is one for this platform; else why there is none. */
export const { binding, reason } = loadBinding();

const waiting = new Map<number, (outcome: Outcome) => void>();
let lastId = 0;
let dispatcher: Dispatcher | undefined;

/** The binding, for callers that cannot do without. */
export function required(): Binding {
  if (binding !== undefined) return binding;
  throw unavailable(reason ?? '');
}

/** Duplicates a descriptor for a transfer, or tells why it cannot play that part in one. */
export function openEnd(
  fd: number,
  side: Side,
  isNodeTcp = false,
): { end: NativeEnd } | { end: undefined; refusal: Refusal } {
  const native = required();
  const opened = native.openEnd(fd, side, isNodeTcp);
  return opened instanceof native.NativeEnd ? { end: opened } : { end: undefined, refusal: opened };
}

export function isSame(one: NativeEnd, other: NativeEnd): boolean {
  return required().isSame(one, other);
}

/** Starts a transfer in the core and calls `settled` on this thread when it has ended. */
export function start(
  begin: (dispatcher: Dispatcher, id: number) => void,
  settled: (outcome: Outcome) => void,
): NativeTransfer {
  const id = nextId();
  const core = dispatch();
  begin(core, id);
  waiting.set(id, settled);
  keepProcessAlive();
  return new NativeTransfer(core, id);
}

function nextId(): number {
  do {
    lastId = (lastId + 1) % 2 ** 32;
  } while (waiting.has(lastId));
  return lastId;
}

function dispatch(): Dispatcher {
  if (dispatcher !== undefined) return dispatcher;
  const created = new (required().Dispatcher)(deliver);
  dispatcher = created;
  // process.exit() ends the core's threads where they stand: what still runs is reset before.
  process.on('exit', () => created.abortAll());
  return created;
}

/** Of each outcome seven numbers, and of those whose last one is not 0 the failure, in the same order. */
function deliver(numbers: number[], failures: Failure[]): void {
  let failed = 0;
  for (let at = 0; at < numbers.length; at += 7) {
    const [id = 0, tx = 0, rx = 0, zeroCopy = 0, aEnded, bEnded, hasFailed] = numbers.slice(at, at + 7);
    const error = hasFailed === 0 ? undefined : failures[failed++];
    const settled = waiting.get(id);
    if (waiting.delete(id)) letProcessEnd();
    settled?.({ tx, rx, zeroCopy, aEnded: aEnded !== 0, bEnded: bEnded !== 0, error });
    dispatcher?.forget(id);
  }
}
