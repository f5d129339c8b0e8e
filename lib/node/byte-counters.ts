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
  running: readonly (() => Moved)[];
  /** What the idle timer last saw. */
  seen: number;
}

const ACCOUNT = Symbol('fdsplice: account');

type Counted = Socket & { [ACCOUNT]?: Account };

/**
 * Makes `bytesRead` and `bytesWritten` of a socket include what the core moves, and the socket's
 * idle timer see it. What is returned stops that, keeping the final counts.
 */
export function account(socket: Counted, moved: () => Moved): () => void {
  const opened = socket[ACCOUNT] ?? open(socket);
  opened.running = [...opened.running, moved];
  return () => {
    const { read, written } = moved();
    opened.running = opened.running.filter((each) => each !== moved);
    opened.ended.read += read;
    opened.ended.written += written;
  };
}

const COUNTS: PropertyDescriptorMap & ThisType<Counted> = {
  bytesRead: {
    get() {
      return own(this, 'bytesRead') + total(this, 'read');
    },
    configurable: true,
  },
  bytesWritten: {
    get() {
      return own(this, 'bytesWritten') + total(this, 'written');
    },
    configurable: true,
  },
};

/** By prototype of a class of sockets, one that inherits from it and counts. */
const prototypes = new WeakMap<object, object>();

/**
 * One prototype for all sockets of a class: properties that are defined on each of them take four times as long, and
 * with a closure each, every socket would get a layout of its own in the engine.
 */
function counted(prototype: object): object {
  const known = prototypes.get(prototype);
  if (known !== undefined) return known;
  const made = Object.create(prototype, {
    ...COUNTS,
    _onTimeout: { value: fireIfIdle, writable: true, configurable: true },
  }) as object;
  prototypes.set(prototype, made);
  return made;
}

function open(socket: Counted): Account {
  const opened: Account = { ended: { read: 0, written: 0 }, running: [], seen: 0 };
  socket[ACCOUNT] = opened;
  Object.setPrototypeOf(socket, counted(Object.getPrototypeOf(socket) as object));
  // A timer that is already armed has bound Node's own function.
  if (socket.timeout !== undefined && socket.timeout > 0) socket.setTimeout(socket.timeout);
  return opened;
}

// Undefined before the socket has connected, as Node's own counts.
function own(socket: Socket, key: 'bytesRead' | 'bytesWritten'): number {
  return Number(Reflect.get(Socket.prototype, key, socket) ?? 0);
}

function total({ [ACCOUNT]: account }: Counted, key: keyof Moved): number {
  if (account === undefined) return 0;
  let sum = account.ended[key];
  for (const moved of account.running) sum += moved()[key];
  return sum;
}

/** Node's idle timer fires when Node sees no bytes; it is put off while the core moves some. */
function fireIfIdle(this: Counted): void {
  const account = this[ACCOUNT];
  const now = total(this, 'read') + total(this, 'written');
  if (account === undefined || now === account.seen) internals(Socket.prototype)._onTimeout?.call(this);
  else {
    account.seen = now;
    internals(this)._unrefTimer?.();
  }
}
