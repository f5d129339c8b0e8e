// Keeps Node from writing to a socket while a transfer writes to its descriptor, and marks the streams that a transfer
// writes to.
import { Socket } from 'node:net';
import { HeldCalls } from './held-calls.js';
import { interceptSystemWrites, queuedInHandle, stateOf } from './internals.js';
import { isRelayed } from './relayed-socket.js';

type WriteCallback = (error?: Error | null) => void;

/** The states of streams, which a Proxy around a stream has too. */
const written = new WeakSet<object>();

/** Whether a transfer is writing to this stream. */
export function isWrittenByTransfer(stream: object): boolean {
  return isRelayed(stream) || written.has(stateOf(stream, 'writable'));
}

/** Marks a stream that a transfer writes to, until {@link unmarkWritten}. */
export function markWritten(stream: object): void {
  written.add(stateOf(stream, 'writable'));
}

export function unmarkWritten(stream: object): void {
  written.delete(stateOf(stream, 'writable'));
}

/** Whether Node still has bytes or an end to send on a socket. */
export function isWriting(socket: Socket): boolean {
  const { writableCorked, writableEnded, writableFinished } = socket;
  return pendingBytes(socket) > 0 || writableCorked > 0 || (writableEnded && !writableFinished);
}

/** Bytes that Node still has to write, without the part of a large write that the system has taken. */
export function pendingBytes(socket: Socket): number {
  return socket.writableLength + queuedInHandle(socket);
}

/** Calls `done` when Node has written all its bytes; never if the socket is destroyed before. */
export function flush(socket: Socket, done: () => void): void {
  while (socket.writableCorked > 0) socket.uncork();
  if (socket.writableEnded) {
    if (socket.writableFinished) done();
    else socket.once('finish', done);
    return;
  }
  // The callback of an empty write comes after those of all earlier writes. The socket's own `write` may be replaced for
  // the transfer.
  const write = Socket.prototype.write.bind(socket) as (chunk: string, callback: WriteCallback) => boolean;
  write('', (error) => {
    if (error == null) done();
  });
}

/** A socket that Node does not write to, because a transfer does. */
export class HeldWrites extends HeldCalls<Socket> {
  /** The write that Node wanted to hand to the system while writes were held. */
  #heldWrite: (() => void) | undefined;

  constructor(socket: Socket) {
    super(socket);
    markWritten(socket);
  }

  /** As {@link isWriting}. */
  get isWriting(): boolean {
    return isWriting(this.target);
  }

  /** As {@link pendingBytes}. */
  get pending(): number {
    return pendingBytes(this.target);
  }

  /** As {@link flush}. */
  flush(done: () => void): void {
    flush(this.target, done);
  }

  /** Accepts writes again, and holds them where Node would hand them to the system. */
  hold(): void {
    interceptSystemWrites(this.overlay, this.target, (write) => (this.#heldWrite = write));
    this.restore();
    this.replay();
  }

  /** Lets Node write again, held writes first. */
  giveBack(): void {
    this.overlay.restore();
    unmarkWritten(this.target);
    if (this.target.destroyed) return;
    this.replay();
    this.#heldWrite?.();
  }
}
