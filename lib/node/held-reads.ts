// Keeps Node from reading from a socket while a transfer reads from its descriptor, and marks the streams that a
// transfer reads from.
import { Socket } from 'node:net';
import {
  forgetPendingRead,
  interceptReads,
  isNodeReading,
  readAgain,
  stateOf,
  stopReading,
} from './internals.js';
import { PropertyOverlay } from './overlay.js';
import { isRelayed } from './relayed-socket.js';

const NOTHING = Buffer.alloc(0);

/** The states of streams, which a Proxy around a stream has too. */
const read = new WeakSet<object>();

/** Whether a transfer is reading from this stream. */
export function isReadByTransfer(stream: object): boolean {
  return isRelayed(stream) || read.has(stateOf(stream, 'readable'));
}

/** Marks a stream that a transfer reads from, until {@link unmarkRead}. */
export function markRead(stream: object): void {
  read.add(stateOf(stream, 'readable'));
}

export function unmarkRead(stream: object): void {
  read.delete(stateOf(stream, 'readable'));
}

/** Takes all bytes that Node has read from a socket and that no reader has taken. */
export function takeBuffered(socket: Socket): Buffer {
  const chunks: Buffer[] = [];
  const overlay = new PropertyOverlay(socket);
  // `read()` emits 'data' too, and these bytes are no longer meant for its listeners.
  const emit = socket.emit.bind(socket) as (event: string, ...args: unknown[]) => boolean;
  overlay.set('emit', (event: string, ...args: unknown[]) => event !== 'data' && emit(event, ...args));
  const read = () => Socket.prototype.read.call(socket) as Buffer | null;
  for (let chunk = read(); chunk !== null; chunk = read()) chunks.push(chunk);
  overlay.restore();
  return Buffer.concat(chunks);
}

/** A socket that Node does not read from, because a transfer does. */
export class HeldReads {
  readonly #socket: Socket;
  readonly #overlay: PropertyOverlay;
  readonly #allowedHalfOpen: boolean;
  readonly #wasFlowing: boolean;
  /** Whether Node is to read again when the transfer is done. */
  #readOn: boolean;

  /** Stops Node's reading in one synchronous step, so that it takes no byte in between. */
  constructor(socket: Socket) {
    markRead(socket);
    this.#socket = socket;
    this.#overlay = new PropertyOverlay(socket);
    this.#allowedHalfOpen = socket.allowHalfOpen;
    this.#wasFlowing = socket.readableFlowing === true;
    this.#readOn = isNodeReading(socket);
    // Without this, an end of input that Node has already read would make Node send FIN.
    socket.allowHalfOpen = true;
    interceptReads(this.#overlay, () => {
      this.#readOn = true;
    });
    if (this.#readOn) stopReading(socket);
  }

  /** Stops the emission of bytes that Node has read. Emits 'pause'. */
  pause(): void {
    if (this.#wasFlowing) this.#socket.pause();
  }

  /** Whether Node goes on reading, because its handle refused to stop. */
  get hasFailed(): boolean {
    return isNodeReading(this.#socket);
  }

  /** Takes at most `limit` bytes that Node has read and that no reader has taken. */
  takeUnread(limit = Infinity): Buffer {
    const socket = this.#socket;
    if (limit === 0 || socket.readableLength === 0) return NOTHING;
    const readOn = this.#readOn;
    const unread = takeBuffered(socket);
    if (!readOn) {
      // `read()` has requested more bytes, which no reader had done. Later requests must get through.
      this.#readOn = false;
      forgetPendingRead(socket);
    }
    if (unread.length > limit) socket.unshift(unread.subarray(limit));
    return unread.subarray(0, limit);
  }

  /** Lets Node read again, `unread` first. */
  giveBack(unread: Uint8Array): void {
    const socket = this.#socket;
    this.#overlay.restore();
    unmarkRead(socket);
    socket.allowHalfOpen = this.#allowedHalfOpen;
    if (socket.destroyed) return;
    if (unread.length > 0) socket.unshift(unread);
    if (this.#readOn) readAgain(socket);
    if (this.#wasFlowing) socket.resume();
  }
}
