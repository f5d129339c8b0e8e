import type { Socket } from 'node:net';
import { internals } from './plain-socket.js';
import { Shadow } from './overlay.js';

const NOTHING = Buffer.alloc(0);

const held = new WeakSet<object>();

/** Whether a transfer is reading from this stream. */
export function isReadByTransfer(stream: object): boolean {
  return held.has(stream);
}

export function holdReads(stream: object): void {
  held.add(stream);
}

export function letReadsGo(stream: object): void {
  held.delete(stream);
}

/** A socket that Node does not read from, because a transfer does. */
export class HeldReads {
  readonly #socket: Socket;
  readonly #shadow: Shadow;
  readonly #allowedHalfOpen: boolean;
  readonly #wasFlowing: boolean;
  #readOn: boolean;

  /** From here on Node does not read; one synchronous step, so that nothing slips by. */
  constructor(socket: Socket) {
    held.add(socket);
    this.#socket = socket;
    this.#shadow = new Shadow(socket);
    this.#allowedHalfOpen = socket.allowHalfOpen;
    this.#wasFlowing = socket.readableFlowing === true;
    const handle = internals(socket)._handle;
    this.#readOn = handle?.reading === true;
    // Without this, an end of input that Node has already read would make Node send FIN.
    socket.allowHalfOpen = true;
    this.#shadow.lay('_read', () => {
      this.#readOn = true;
    });
    if (handle != null && this.#readOn) {
      handle.readStop?.();
      handle.reading = false;
    }
    if (this.#wasFlowing) socket.pause();
  }

  /** Takes at most `limit` bytes of what Node has read and nobody has taken. */
  takeUnread(limit = Infinity): Buffer {
    const socket = this.#socket;
    if (limit === 0 || socket.readableLength === 0) return NOTHING;
    const chunks: Buffer[] = [];
    const readOn = this.#readOn;
    // `read()` also emits 'data', to listeners for which these bytes are not meant any more.
    const emit = socket.emit.bind(socket) as (event: string, ...args: unknown[]) => boolean;
    this.#shadow.lay('emit', (event: string, ...args: unknown[]) => event !== 'data' && emit(event, ...args));
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      chunks.push(chunk);
    }
    this.#shadow.lift('emit');
    if (!readOn) {
      // `read()` has asked for more on its own account. Nobody wants it, and somebody may later.
      this.#readOn = false;
      const { _readableState: state } = internals(socket);
      if (state !== undefined) state.reading = false;
    }
    const unread = Buffer.concat(chunks);
    if (unread.length > limit) socket.unshift(unread.subarray(limit));
    return unread.subarray(0, limit);
  }

  /** Lets Node read again, `unread` first. */
  giveBack(unread: Uint8Array): void {
    const socket = this.#socket;
    this.#shadow.lift();
    this.release();
    if (socket.destroyed) return;
    if (unread.length > 0) socket.unshift(unread);
    if (this.#readOn) socket._read(0);
    if (this.#wasFlowing) socket.resume();
  }

  /** Takes back what was laid over the socket, which is about to be destroyed. */
  release(): void {
    held.delete(this.#socket);
    this.#shadow.retire();
    this.#socket.allowHalfOpen = this.#allowedHalfOpen;
  }
}
