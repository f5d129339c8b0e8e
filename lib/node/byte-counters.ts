// Makes the byte counts and the idle timer of a socket include the bytes that the core moves.
import type { Socket } from 'node:net';
import { now } from '../contract/clock.js';
import {
  adoptIdleTimer,
  hasIdleTimerFired,
  idleTimerOf,
  isSetAnew,
  ON_IDLE,
  reportIdle,
  RESTART_IDLE,
  restartIdleTimer,
  shortenIdleTimer,
  startOf,
  type Timer,
} from './idle-timer-internals.js';
import { changeClass, ownCount } from './internals.js';

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
  /** The idle timer that was set by {@link watch}, until it fires or Node moves a byte. */
  watching: Timer | undefined;
  /** When this timer was set, by its own clock. Setting it anew changes that. */
  watchingStart: number | undefined;
  /** When it was set first after the last report, by `now()`. */
  watchedSince: number;
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
  if (socket.timeout !== undefined && socket.timeout > 0 && hasIdleTimerFired(socket)) watch(socket, opened);
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
    watching: undefined,
    watchingStart: undefined,
    watchedSince: 0,
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
  if (account === undefined) {
    reportIdle(this);
    return;
  }
  const idleMs = idleMsOf(account);
  const left = (this.timeout ?? 0) - idleMs;
  if (left > 0) {
    account.isShortened = true;
    shortenIdleTimer(this, Math.ceil(left));
    return;
  }
  const timer = idleTimerOf(this);
  const isWatching =
    timer !== undefined && timer === account.watching && startOf(timer) === account.watchingStart;
  const isReported = isWatching && now() - idleMs <= account.watchedSince;
  account.watching = timer;
  if (!isReported) {
    account.watchedSince = now();
    reportIdle(this);
  }
  // A listener may have set the timer anew, and Node may have postponed its report.
  const isUntouched =
    timer !== undefined && idleTimerOf(this) === timer && account.watching === timer && !isSetAnew(timer);
  account.watching = undefined;
  if (isUntouched && account.running.length > 0) watch(this, account, account.watchedSince);
}

/**
 * Sets the idle timer anew after it has fired: Node does so for a byte that it moves itself, and the core reports none. It
 * does not report again until a byte has moved.
 */
function watch(socket: Counted, account: Account, since = now()): void {
  shortenIdleTimer(socket, socket.timeout ?? 0);
  account.isShortened = false;
  account.watching = idleTimerOf(socket);
  account.watchingStart = account.watching === undefined ? undefined : startOf(account.watching);
  account.watchedSince = since;
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
  if (account !== undefined) account.watching = undefined;
  if (account?.isShortened === true) {
    account.isShortened = false;
    shortenIdleTimer(this, this.timeout ?? 0);
  }
  restartIdleTimer(this);
}
