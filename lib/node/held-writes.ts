// Keeps Node from writing to a socket while a transfer writes to its descriptor, and marks the streams that a transfer
// writes to.
import { Socket } from 'node:net';
import { HeldCalls } from './held-calls.js';
import { interceptSystemWrites, queuedInHandle, stateOf } from './internals.js';

type WriteCallback = (error?: Error | null) => void;

/** The states of streams, which a Proxy around a stream has too. */
const written = new WeakSet<object>();

/** Whether a transfer is writing to this stream. */
export function isWrittenByTransfer(stream: object): boolean {
  return written.has(stateOf(stream, 'writable'));
}

/** Marks a stream that a transfer writes to, until {@link unmarkWritten}. */
export function markWritten(stream: object): void {
  written.add(stateOf(stream, 'writable'));
}

export function unmarkWritten(stream: object): void {
  written.delete(stateOf(stream, 'writable'));
}

/** A socket that Node does not write to, because a transfer does. */
export class HeldWrites extends HeldCalls<Socket> {
  /** The write that Node wanted to hand to the system while writes were held. */
  #heldWrite: (() => void) | undefined;

  constructor(socket: Socket) {
    super(socket);
    markWritten(socket);
  }

  /** Whether Node still has something to write, or an end to send. */
  get isWriting(): boolean {
    const { writableCorked, writableEnded, writableFinished } = this.target;
    return this.pending > 0 || writableCorked > 0 || (writableEnded && !writableFinished);
  }

  /** Bytes that Node still has to write, without the part of a large write that the system has taken. */
  get pending(): number {
    return this.target.writableLength + queuedInHandle(this.target);
  }

  /** Calls `done` when Node has written everything it had to; never if the socket is destroyed before. */
  flush(done: () => void): void {
    const socket = this.target;
    while (socket.writableCorked > 0) socket.uncork();
    if (socket.writableEnded) {
      if (socket.writableFinished) done();
      else socket.once('finish', done);
      return;
    }
    // The callback of an empty write comes after those of all earlier writes. The socket's own `write` may be laid over
    // for the transfer.
    const write = Socket.prototype.write.bind(socket) as (chunk: string, callback: WriteCallback) => boolean;
    write('', (error) => {
      if (error == null) done();
    });
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

  /** Removes the overlay from a socket that is about to be destroyed. */
  release(): void {
    unmarkWritten(this.target);
    this.detach();
  }
}
