// Makes the byte counts and the idle timer of a socket include the bytes that the core moves.
import type { Socket } from 'node:net';
import { now } from '../contract/clock.js';
import {
  adoptIdleTimer,
  changeClass,
  ON_IDLE,
  ownCount,
  reportIdle,
  RESTART_IDLE,
  restartIdleTimer,
  shortenIdleTimer,
} from './internals.js';

/** Bytes that the core has read from a socket and written to it. */
export interface Moved {
  read: number;
  written: number;
}

interface Running {
  moved: () => Moved;
  /** Milliseconds since the last of these bytes. */
  idleMs: () => number;
}

interface Account {
  /** Bytes of transfers that have ended. */
  ended: Moved;
  running: readonly Running[];
  /** When the last byte of the ended transfers moved, by `now()`. */
  movedAt: number;
  /** Whether the idle timer runs for the rest of a period. The next byte that Node moves starts a whole one. */
  isShortened: boolean;
}

const ACCOUNT = Symbol('fdsplice: account');

type Counted = Socket & { [ACCOUNT]?: Account };

/**
 * Makes `bytesRead` and `bytesWritten` of a socket include the bytes that the core moves, and its idle timer count from
 * the last of them, which moved `idleMs` ago. Returns a function that ends this and keeps the final counts.
 */
export function account(
  socket: Counted,
  moved: () => Moved,
  idleMs: () => number = () => Infinity,
): () => void {
  const opened = socket[ACCOUNT] ?? open(socket);
  const running = { moved, idleMs };
  opened.running = [...opened.running, running];
  return () => {
    const { read, written } = moved();
    opened.running = opened.running.filter((each) => each !== running);
    opened.ended.read += read;
    opened.ended.written += written;
    opened.movedAt = Math.max(opened.movedAt, now() - idleMs());
  };
}

const COUNTS: PropertyDescriptorMap & ThisType<Counted> = {
  bytesRead: {
    get() {
      return ownCount(this, 'bytesRead') + total(this, 'read');
    },
    configurable: true,
  },
  bytesWritten: {
    get() {
      return ownCount(this, 'bytesWritten') + total(this, 'written');
    },
    configurable: true,
  },
};

/** For the prototype of each class of sockets, the prototype that inherits from it and counts. */
const prototypes = new WeakMap<object, object>();

/**
 * All sockets of a class share one counting prototype. Defining these properties on each socket takes four times as
 * long, and closures for each socket would give each a layout of its own in the JavaScript engine.
 */
function counted(prototype: object): object {
  const known = prototypes.get(prototype);
  if (known !== undefined) return known;
  const made = Object.create(prototype, {
    ...COUNTS,
    [ON_IDLE]: { value: fireIfIdle, writable: true, configurable: true },
    [RESTART_IDLE]: { value: restartIdle, writable: true, configurable: true },
  }) as object;
  prototypes.set(prototype, made);
  return made;
}

function open(socket: Counted): Account {
  const opened: Account = {
    ended: { read: 0, written: 0 },
    running: [],
    movedAt: -Infinity,
    isShortened: false,
  };
  socket[ACCOUNT] = opened;
  changeClass(socket, counted(Object.getPrototypeOf(socket) as object));
  // A timer that is already set is bound to Node's own method.
  if (socket.timeout !== undefined && socket.timeout > 0) adoptIdleTimer(socket);
  return opened;
}

function total({ [ACCOUNT]: account }: Counted, key: keyof Moved): number {
  if (account === undefined) return 0;
  let sum = account.ended[key];
  for (const { moved } of account.running) sum += moved()[key];
  return sum;
}

/**
 * Node's idle timer fires when Node has moved no byte for a period. Where the core has moved one since, the timer is set
 * to the rest of the period that began with it.
 */
function fireIfIdle(this: Counted): void {
  const account = this[ACCOUNT];
  const left = account === undefined ? 0 : (this.timeout ?? 0) - idleMsOf(account);
  if (account === undefined || left <= 0) {
    if (account !== undefined) account.isShortened = false;
    reportIdle(this);
  } else {
    account.isShortened = true;
    shortenIdleTimer(this, Math.ceil(left));
  }
}

/** Milliseconds since the core moved a byte of the socket; `Infinity` if it has moved none. */
function idleMsOf({ running, movedAt }: Account): number {
  let idle = now() - movedAt;
  for (const { idleMs } of running) idle = Math.min(idle, idleMs());
  return idle;
}

/** Node calls this for each byte that it moves. */
function restartIdle(this: Counted): void {
  const account = this[ACCOUNT];
  if (account?.isShortened === true) {
    account.isShortened = false;
    shortenIdleTimer(this, this.timeout ?? 0);
  }
  restartIdleTimer(this);
}
