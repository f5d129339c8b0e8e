// Names what Node does not document about the idle timer of a socket, which emits 'timeout': the methods of net.Socket
// that the timer calls, and the fields of the timer. internals.ts explains the rules for such files.
import { Socket } from 'node:net';

interface IdleHooks {
  _onTimeout(): void;
  _unrefTimer(): void;
}

function hooksOf(socket: Socket): Socket & IdleHooks {
  return socket as Socket & IdleHooks;
}

/**
 * The key of the method that the idle timer calls. Up to Node 22 it is bound when the timer is set. Without it, the
 * timer would fire while a transfer moves bytes.
 */
export const ON_IDLE = '_onTimeout';

/** The key of the method that starts the idle timer anew, for the probe. */
export const RESTART_IDLE = '_unrefTimer';

/** Does what the idle timer of a socket does by itself: emits 'timeout'. */
export function reportIdle(socket: Socket): void {
  hooksOf(Socket.prototype)[ON_IDLE].call(socket);
}

export interface Timer {
  _onTimeout(...args: unknown[]): void;
  _timerArgs?: unknown[];
  _destroyed?: boolean;
  /** The next timer of its list; absent while it fires, until it is set anew. */
  _idleNext?: object | null;
  _idleStart?: number;
}

/** Whether a timer that is firing was set anew. Since Node 24, `setTimeout` of a socket keeps the same timer for this. */
export function isSetAnew(timer: Timer): boolean {
  return timer._idleNext != null;
}

/** When a timer was set. Without the field, a timer that was set anew with the same period is taken for the earlier one. */
export function startOf(timer: Timer): number | undefined {
  return timer._idleStart;
}

/** The idle timer of a socket; the key is a symbol that is not public. */
export function idleTimerOf(socket: Socket): Timer | undefined {
  for (const key of Object.getOwnPropertySymbols(socket)) {
    const value = Reflect.get(socket, key) as (Timer & object) | null | undefined;
    if (value?.constructor?.name === 'Timeout') return value;
  }
  return undefined;
}

/**
 * Makes an idle timer that is already set call the method that the socket has now. Without access to the timer, it is set
 * anew and fires up to a whole period late.
 */
export function adoptIdleTimer(socket: Socket): void {
  const timer = idleTimerOf(socket);
  if (timer === undefined) socket.setTimeout(socket.timeout ?? 0);
  else timer._onTimeout = () => hooksOf(socket)[ON_IDLE]();
}

/** Whether the idle timer of a socket has fired and was not started anew. Without the flag: no. */
export function hasIdleTimerFired(socket: Socket): boolean {
  return idleTimerOf(socket)?._destroyed === true;
}

/** Sets the idle timer of a socket to fire in `ms`; its period stays the same. */
export function shortenIdleTimer(socket: Socket & { timeout?: number }, ms: number): void {
  const { timeout } = socket;
  Socket.prototype.setTimeout.call(socket, ms);
  if (timeout !== undefined) socket.timeout = timeout;
}

/** Calls what an idle timer that is set now would call, for the probe. */
export function fireIdleTimer(socket: Socket): void {
  socket.setTimeout(2 ** 30);
  const timer = idleTimerOf(socket);
  timer?._onTimeout(...(timer._timerArgs ?? []));
  socket.setTimeout(0);
}

/** Does what a byte that Node moves does to the idle timer: starts it anew. */
export function restartIdleTimer(socket: Socket): void {
  hooksOf(Socket.prototype)[RESTART_IDLE].call(socket);
}
