import { Socket } from 'node:net';
import { internals } from './plain-socket.js';

/** Bytes that the core has read from a socket and written to it. */
export interface Moved {
  read: number;
  written: number;
}

interface Account {
  /** By transfers that have ended. */
  ended: Moved;
  /** By the transfers that run, at this moment. */
  running: Set<() => Moved>;
}

const accounts = new WeakMap<Socket, Account>();

/**
 * Makes `bytesRead` and `bytesWritten` of a socket include what the core moves, and the socket's
 * idle timer see it. What is returned stops that, keeping the final counts.
 */
export function account(socket: Socket, moved: () => Moved): () => void {
  const { ended, running } = accounts.get(socket) ?? open(socket);
  running.add(moved);
  return () => {
    const { read, written } = moved();
    running.delete(moved);
    ended.read += read;
    ended.written += written;
  };
}

function open(socket: Socket): Account {
  const opened: Account = { ended: { read: 0, written: 0 }, running: new Set() };
  accounts.set(socket, opened);
  const total = (key: keyof Moved) =>
    [...opened.running].reduce((sum, moved) => sum + moved()[key], opened.ended[key]);
  // Undefined before the socket has connected, as Node's own counts.
  const own = (key: 'bytesRead' | 'bytesWritten') => Number(Reflect.get(Socket.prototype, key, socket) ?? 0);
  Object.defineProperties(socket, {
    bytesRead: { get: () => own('bytesRead') + total('read'), configurable: true },
    bytesWritten: { get: () => own('bytesWritten') + total('written'), configurable: true },
  });
  keepIdleTimer(socket, () => total('read') + total('written'));
  return opened;
}

/** Node's idle timer fires when Node sees no bytes; it is put off while the core moves some. */
function keepIdleTimer(socket: Socket, total: () => number): void {
  const fire = internals(Socket.prototype)._onTimeout?.bind(socket);
  if (fire === undefined) return;
  let seen = total();
  const fireIfIdle = () => {
    const now = total();
    if (now === seen) fire();
    else internals(socket)._unrefTimer?.();
    seen = now;
  };
  Object.defineProperty(socket, '_onTimeout', { value: fireIfIdle, writable: true, configurable: true });
  // A timer that is already armed has bound Node's own function.
  if (socket.timeout !== undefined && socket.timeout > 0) socket.setTimeout(socket.timeout);
}
