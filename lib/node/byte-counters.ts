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

/** A transfer in the core, for the counts of one of its sockets. */
export interface Running {
  moved(): Moved;
  /** Milliseconds since the last of these bytes. */
  idleMs(): number;
}

/** What is known of a socket whose bytes the core has moved. */
class Account {
  /** Bytes of transfers that have ended. */
  read = 0;
  written = 0;
  /** At most two transfers at a time: one that reads from the socket, and one that writes to it. */
  running: Running | undefined;
  other: Running | undefined;
  /** When the last byte of the ended transfers moved, by `now()`. Absent if there was none. */
  movedAt: number | undefined;
  /** Present once the idle timer has fired. */
  idleness: Idleness | undefined;
}

interface Idleness {
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

/** During the first transfer of a socket, the account is the transfer itself: an idle relay then has no other object. */
type Counted = Socket & { [ACCOUNT]?: Account | Running | undefined };

/**
 * Gives a socket the property for its account. If a property is added after a change of the prototype, V8 gives each object
 * a layout of its own, of 800 bytes. So all code that changes the prototype of a socket calls this before.
 */
export function reserveAccount(socket: Counted): void {
  if (!(ACCOUNT in socket)) socket[ACCOUNT] = undefined;
}

/**
 * Makes `bytesRead` and `bytesWritten` of a socket include the bytes of a transfer in the core, and its idle timer count
 * from the last of them, until {@link stopAccounting}.
 */
export function account(socket: Counted, transfer: Running): void {
  if (socket[ACCOUNT] === undefined) {
    open(socket, transfer);
  } else {
    const opened = accountOf(socket);
    if (opened.running === undefined) opened.running = transfer;
    else opened.other = transfer;
  }
  if (socket.timeout !== undefined && socket.timeout > 0 && hasIdleTimerFired(socket)) watch(socket);
}

/** Keeps the final counts of a transfer that has ended. Does nothing if {@link account} was not called for it. */
export function stopAccounting(socket: Counted, transfer: Running): void {
  if (socket[ACCOUNT] === undefined) return;
  const opened = accountOf(socket);
  if (opened.running === transfer) opened.running = undefined;
  else if (opened.other === transfer) opened.other = undefined;
  else return;
  const { read, written } = transfer.moved();
  opened.read += read;
  opened.written += written;
  // A socket that is destroyed has no idle timer any more.
  if (!socket.destroyed) opened.movedAt = Math.max(opened.movedAt ?? -Infinity, now() - transfer.idleMs());
}

/** The account of a socket that has one, as an object of its own. */
function accountOf(socket: Counted): Account {
  const known = socket[ACCOUNT];
  if (known instanceof Account) return known;
  const made = new Account();
  made.running = known;
  socket[ACCOUNT] = made;
  return made;
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

const IS_COUNTED = Symbol('fdsplice: counted');

/** For the prototype of each class of sockets, the prototype that inherits from it and counts. */
const prototypes = new WeakMap<object, object>();

/**
 * The counting prototype of a class; the prototype itself if it counts already.
 *
 * All sockets of a class share one counting prototype. Defining these properties on each socket takes four times as
 * long, and closures for each socket would give each a layout of its own in the JavaScript engine.
 */
export function counted(prototype: object): object {
  const known = prototypes.get(prototype);
  if (known !== undefined) return known;
  if (Reflect.get(prototype, IS_COUNTED) === true) return prototype;
  const made = Object.create(prototype, {
    ...COUNTS,
    [ON_IDLE]: { value: fireIfIdle, writable: true, configurable: true },
    [RESTART_IDLE]: { value: restartIdle, writable: true, configurable: true },
    [IS_COUNTED]: { value: true },
  }) as object;
  prototypes.set(prototype, made);
  return made;
}

function open(socket: Counted, transfer: Running): void {
  socket[ACCOUNT] = transfer;
  const prototype = Object.getPrototypeOf(socket) as object;
  const counting = counted(prototype);
  if (counting !== prototype) changeClass(socket, counting);
  // A timer that is already set is bound to Node's own method.
  if (socket.timeout !== undefined && socket.timeout > 0) adoptIdleTimer(socket);
}

function total({ [ACCOUNT]: account }: Counted, key: keyof Moved): number {
  if (account === undefined) return 0;
  if (!(account instanceof Account)) return account.moved()[key];
  const { running, other } = account;
  return account[key] + (running?.moved()[key] ?? 0) + (other?.moved()[key] ?? 0);
}

/**
 * Node's idle timer fires when Node has moved no byte for a period. Where the core has moved one since, the timer is set
 * to the rest of the period that began with it.
 */
function fireIfIdle(this: Counted): void {
  if (this[ACCOUNT] === undefined) {
    reportIdle(this);
    return;
  }
  const account = accountOf(this);
  const idleness = idlenessOf(account);
  const idleMs = idleMsOf(account);
  const left = (this.timeout ?? 0) - idleMs;
  if (left > 0) {
    idleness.isShortened = true;
    shortenIdleTimer(this, Math.ceil(left));
    return;
  }
  const timer = idleTimerOf(this);
  const isWatching =
    timer !== undefined && timer === idleness.watching && startOf(timer) === idleness.watchingStart;
  const isReported = isWatching && now() - idleMs <= idleness.watchedSince;
  idleness.watching = timer;
  if (!isReported) {
    idleness.watchedSince = now();
    reportIdle(this);
  }
  // A listener may have set the timer anew, and Node may have postponed its report.
  const isUntouched =
    timer !== undefined && idleTimerOf(this) === timer && idleness.watching === timer && !isSetAnew(timer);
  idleness.watching = undefined;
  const isRunning = account.running !== undefined || account.other !== undefined;
  if (isUntouched && isRunning) watch(this, idleness.watchedSince);
}

/**
 * Sets the idle timer anew after it has fired: Node does so for a byte that it moves itself, and the core reports none. It
 * does not report again until a byte has moved.
 */
function watch(socket: Counted, since = now()): void {
  const idleness = idlenessOf(accountOf(socket));
  shortenIdleTimer(socket, socket.timeout ?? 0);
  idleness.isShortened = false;
  idleness.watching = idleTimerOf(socket);
  idleness.watchingStart = idleness.watching === undefined ? undefined : startOf(idleness.watching);
  idleness.watchedSince = since;
}

function idlenessOf(account: Account): Idleness {
  return (account.idleness ??= {
    isShortened: false,
    watching: undefined,
    watchingStart: undefined,
    watchedSince: 0,
  });
}

/** Milliseconds since the core moved a byte of the socket; `Infinity` if it has moved none. */
function idleMsOf({ running, other, movedAt = -Infinity }: Account): number {
  return Math.min(now() - movedAt, running?.idleMs() ?? Infinity, other?.idleMs() ?? Infinity);
}

/** Node calls this for each byte that it moves. */
function restartIdle(this: Counted): void {
  const account = this[ACCOUNT];
  const idleness = account instanceof Account ? account.idleness : undefined;
  if (idleness !== undefined) idleness.watching = undefined;
  if (idleness?.isShortened === true) {
    idleness.isShortened = false;
    shortenIdleTimer(this, this.timeout ?? 0);
  }
  restartIdleTimer(this);
}
