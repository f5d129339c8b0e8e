// Makes the byte counts and the idle timer of a socket include the bytes that the core moves.
import type { Socket } from 'node:net';
import { changeClass, ON_IDLE, ownCount, reportIdle, restartIdleTimer } from './internals.js';

/** Bytes that the core has read from a socket and written to it. */
export interface Moved {
  read: number;
  written: number;
}

interface Account {
  /** Bytes of transfers that have ended. */
  ended: Moved;
  /** The counts of running transfers. */
  running: readonly (() => Moved)[];
  /** The total at the last time that the idle timer fired. */
  seen: number;
}

const ACCOUNT = Symbol('fdsplice: account');

type Counted = Socket & { [ACCOUNT]?: Account };

/**
 * Makes `bytesRead` and `bytesWritten` of a socket include the bytes that the core moves, and keeps its idle timer from
 * firing meanwhile. Returns a function that ends this and keeps the final counts.
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
  }) as object;
  prototypes.set(prototype, made);
  return made;
}

function open(socket: Counted): Account {
  const opened: Account = { ended: { read: 0, written: 0 }, running: [], seen: 0 };
  socket[ACCOUNT] = opened;
  changeClass(socket, counted(Object.getPrototypeOf(socket) as object));
  // A timer that is already set is bound to Node's own method.
  if (socket.timeout !== undefined && socket.timeout > 0) socket.setTimeout(socket.timeout);
  return opened;
}

function total({ [ACCOUNT]: account }: Counted, key: keyof Moved): number {
  if (account === undefined) return 0;
  let sum = account.ended[key];
  for (const moved of account.running) sum += moved()[key];
  return sum;
}

/** Node's idle timer fires when Node moves no bytes. It is set anew where the core has moved some since. */
function fireIfIdle(this: Counted): void {
  const account = this[ACCOUNT];
  const now = total(this, 'read') + total(this, 'written');
  if (account === undefined || now === account.seen) {
    reportIdle(this);
  } else {
    account.seen = now;
    restartIdleTimer(this);
  }
}
