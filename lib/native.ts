import type {
  Dispatcher,
  NativeEnd,
  NativeRateLimiter,
  NativeTransfer,
  Outcome,
  Refusal,
} from './binding.js';
import { unavailable } from './errors.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';
import { type Binding, loadBinding } from './loader.js';
import type { Side } from './types.js';

export type { NativeEnd, NativeRateLimiter, NativeTransfer, Outcome };

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
  begin: (dispatcher: Dispatcher, id: number) => NativeTransfer,
  settled: (outcome: Outcome) => void,
): NativeTransfer {
  const id = nextId();
  const transfer = begin(dispatch(), id);
  waiting.set(id, settled);
  keepProcessAlive();
  return transfer;
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

function deliver(outcomes: Outcome[]): void {
  for (const outcome of outcomes) {
    const settled = waiting.get(outcome.id);
    if (waiting.delete(outcome.id)) letProcessEnd();
    settled?.(outcome);
  }
}
