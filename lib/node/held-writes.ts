import { Socket } from 'node:net';
import { replay } from './held-calls.js';
import { internals } from './plain-socket.js';
import { Shadow } from './overlay.js';

type WriteCallback = (error?: Error | null) => void;
type Call = (...args: unknown[]) => unknown;

const held = new WeakSet<object>();

/** Whether a transfer is writing to this stream. */
export function isWrittenByTransfer(stream: object): boolean {
  return held.has(stream);
}

export function holdWrites(stream: object): void {
  held.add(stream);
}

export function letWritesGo(stream: object): void {
  held.delete(stream);
}

const REFUSE = Symbol('fdsplice: refuse');

type Refusing = Socket & { [REFUSE]?: () => void };

// Shared by all sockets in relays: closures for each would be a good part of what an idle one takes.
function refuseWrite(this: Refusing, ...args: unknown[]): boolean {
  refused(this, args);
  return false;
}

function refuseEnd(this: Refusing, ...args: unknown[]): Socket {
  refused(this, args);
  return this;
}

function refused(socket: Refusing, args: unknown[]): void {
  socket[REFUSE]?.();
  const error = Object.assign(new Error('the socket belongs to a relay'), { code: 'ERR_INVALID_STATE' });
  const callback = args.find((arg) => typeof arg === 'function') as WriteCallback | undefined;
  if (callback !== undefined) process.nextTick(callback, error);
}

/** What Node still has to write would never go out. */
function ignoreCork(): void {}

/** A socket that Node does not write to, because a transfer does. */
export class HeldWrites {
  readonly #socket: Socket;
  readonly #shadow: Shadow;
  /** What Node wanted to hand to the system while writes were held. */
  #heldWrite: (() => void) | undefined;
  /** Calls of `write` and `end` that came before Node had written what stood before them. */
  readonly #queued: (() => unknown)[] = [];

  constructor(socket: Socket) {
    held.add(socket);
    this.#socket = socket;
    this.#shadow = new Shadow(socket);
  }

  /** Whether Node still has something to write, or an end to send. */
  get isWriting(): boolean {
    const { writableCorked, writableEnded, writableFinished } = this.#socket;
    return this.pending > 0 || writableCorked > 0 || (writableEnded && !writableFinished);
  }

  /** How much Node still has to write; what the system has taken of one large write is gone from it. */
  get pending(): number {
    return this.#socket.writableLength + (internals(this.#socket)._handle?.writeQueueSize ?? 0);
  }

  /** Calls back when Node has written all it had to; never if the socket is destroyed before. */
  flush(done: () => void): void {
    const socket = this.#socket;
    while (socket.writableCorked > 0) socket.uncork();
    if (socket.writableEnded) {
      if (socket.writableFinished) done();
      else socket.once('finish', done);
      return;
    }
    // An empty write calls back after all that stand before it. The socket's own `write` may be laid
    // over for the transfer.
    const write = Socket.prototype.write.bind(socket) as (chunk: string, callback: WriteCallback) => boolean;
    write('', (error) => {
      if (error == null) done();
    });
  }

  /** Meets every `write` and `end` from JavaScript with `refuse`: they would get in between native bytes. */
  refuse(refuse: () => void): void {
    (this.#socket as Refusing)[REFUSE] = refuse;
    this.#shadow.lay('write', refuseWrite);
    this.#shadow.lay('end', refuseEnd);
    this.#shadow.lay('cork', ignoreCork);
  }

  /** Keeps `write` and `end` from JavaScript waiting, until {@link hold}. */
  queue(): void {
    for (const name of ['write', 'end'] as const) {
      const call = Socket.prototype[name].bind(this.#socket) as Call;
      this.#shadow.lay(name, (...args: unknown[]) => {
        this.#queued.push(() => call(...args));
        return name === 'write' ? false : this.#socket;
      });
    }
    this.#shadow.lay('cork', ignoreCork);
  }

  /** Takes writes again, and holds them where Node would hand them to the system. */
  hold(): void {
    const { prototype } = Socket;
    this.#shadow.lay('_write', (chunk: Buffer, encoding: BufferEncoding, callback: WriteCallback) => {
      this.#heldWrite = () => prototype._write.call(this.#socket, chunk, encoding, callback);
    });
    this.#shadow.lay('_writev', null);
    this.#shadow.lay('_final', (callback: WriteCallback) => {
      this.#heldWrite = () => prototype._final.call(this.#socket, callback);
    });
    this.#replayQueued();
  }

  /** Lets Node write again, first what it wanted to meanwhile. */
  giveBack(): void {
    this.#shadow.lift();
    this.release();
    if (this.#socket.destroyed) return;
    this.#replayQueued();
    this.#heldWrite?.();
  }

  /** Takes back what was laid over the socket, which is about to be destroyed. */
  release(): void {
    held.delete(this.#socket);
    this.#shadow.retire();
  }

  #replayQueued(): void {
    this.#shadow.lift('write');
    this.#shadow.lift('end');
    this.#shadow.lift('cork');
    replay(this.#queued, this.#socket);
  }
}
