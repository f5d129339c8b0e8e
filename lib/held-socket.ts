import { Socket } from 'node:net';
import { internals } from './plain-socket.js';
import { Shadow } from './shadow.js';

type WriteCallback = (error?: Error | null) => void;

/**
 * A socket held for a transfer: Node does not read from it until it is given back or destroyed.
 * What Node had already read is taken out, what Node still had to write is flushed.
 */
export class HeldSocket {
  readonly socket: Socket;
  readonly #shadow: Shadow;
  readonly #allowedHalfOpen: boolean;
  readonly #wasFlowing: boolean;
  #readOn: boolean;
  readonly #listeners: [event: string, listener: () => void][] = [];
  /** What Node wanted to write while writes were held. */
  #heldWrite: (() => void) | undefined;
  /** Calls of `write` and `end` that came before Node had written what stood before them. */
  readonly #queued: (() => unknown)[] = [];

  /** From here on Node does not read; one synchronous step, so that nothing slips by. */
  constructor(socket: Socket) {
    this.socket = socket;
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

  /** Listens until the socket is given back. */
  on(event: 'close' | 'connect' | 'error', listener: () => void): void {
    this.socket.on(event, listener);
    this.#listeners.push([event, listener]);
  }

  /** Takes at most `limit` bytes of what Node has read and nobody has taken. */
  takeUnread(limit = Infinity): Buffer {
    const { socket } = this;
    if (limit === 0) return Buffer.alloc(0);
    const chunks: Buffer[] = [];
    // `read()` also emits 'data', to listeners for which these bytes are not meant any more.
    const emit = socket.emit.bind(socket) as (event: string, ...args: unknown[]) => boolean;
    this.#shadow.lay('emit', (event: string, ...args: unknown[]) => event !== 'data' && emit(event, ...args));
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      chunks.push(chunk);
    }
    this.#shadow.lift('emit');
    const unread = Buffer.concat(chunks);
    if (unread.length > limit) socket.unshift(unread.subarray(limit));
    return unread.subarray(0, limit);
  }

  /** Whether Node still has something to write, or an end to send. */
  get isWriting(): boolean {
    const { writableLength, writableCorked, writableEnded, writableFinished } = this.socket;
    const queued = internals(this.socket)._handle?.writeQueueSize ?? 0;
    return writableLength > 0 || writableCorked > 0 || queued > 0 || (writableEnded && !writableFinished);
  }

  /** Calls back when Node has written all it had to; never if the socket is destroyed before. */
  flush(done: () => void): void {
    const { socket } = this;
    while (socket.writableCorked > 0) socket.uncork();
    if (socket.writableEnded) {
      if (socket.writableFinished) done();
      else socket.once('finish', done);
      return;
    }
    // An empty write calls back after all that stand before it.
    const written: WriteCallback = (error) => {
      if (error == null) done();
    };
    // The socket's own `write` may be laid over for the transfer.
    const write = Socket.prototype.write.bind(socket) as (chunk: string, callback: WriteCallback) => boolean;
    write('', written);
  }

  /** Meets every `write` and `end` from JavaScript with `refuse`: they would get in between native bytes. */
  refuseWrites(refuse: () => void): void {
    this.#shadow.lay('write', () => {
      refuse();
      return false;
    });
    this.#shadow.lay('end', () => {
      refuse();
      return this.socket;
    });
  }

  /** Keeps `write` and `end` from JavaScript waiting, until {@link holdWrites}. */
  queueWrites(): void {
    for (const name of ['write', 'end'] as const) {
      const call = Socket.prototype[name].bind(this.socket) as (...args: unknown[]) => unknown;
      this.#shadow.lay(name, (...args: unknown[]) => {
        this.#queued.push(() => call(...args));
        return name === 'write' ? false : this.socket;
      });
    }
  }

  /** Takes writes again, and holds them where Node would hand them to the system. */
  holdWrites(): void {
    const { prototype } = Socket;
    this.#shadow.lay('_write', (chunk: Buffer, encoding: BufferEncoding, callback: WriteCallback) => {
      this.#heldWrite = () => prototype._write.call(this.socket, chunk, encoding, callback);
    });
    this.#shadow.lay('_writev', null);
    this.#shadow.lay('_final', (callback: WriteCallback) => {
      this.#heldWrite = () => prototype._final.call(this.socket, callback);
    });
    this.#replayQueued();
  }

  #replayQueued(): void {
    this.#shadow.lift('write');
    this.#shadow.lift('end');
    for (const call of this.#queued.splice(0)) call();
  }

  /** Gives the socket back to Node as it was, `unread` first in line to be read. */
  giveBack(unread: Uint8Array): void {
    const { socket } = this;
    this.#stopListening();
    this.#shadow.lift();
    socket.allowHalfOpen = this.#allowedHalfOpen;
    if (socket.destroyed) return;
    if (unread.length > 0) socket.unshift(unread);
    this.#replayQueued();
    this.#heldWrite?.();
    if (this.#readOn) socket._read(0);
    if (this.#wasFlowing) socket.resume();
  }

  /** Emits 'end' if the side ended and nobody was told, and destroys the socket; resolves when it is closed. */
  async destroy({ ended, reset }: { ended: boolean; reset: boolean }): Promise<void> {
    const { socket } = this;
    const closed = socket.closed ? undefined : new Promise((resolve) => socket.once('close', resolve));
    if (ended && !socket.destroyed && !socket.readableEnded) {
      socket.push(null);
      socket.read(0);
      // 'end' is emitted in the next tick, and not at all once the socket is destroyed.
      await new Promise((resolve) => socket.once('end', resolve).once('close', resolve));
    }
    this.#shadow.lift();
    if (reset) resetOrDestroy(socket);
    else socket.destroy();
    await closed;
    this.#stopListening();
  }

  #stopListening(): void {
    for (const [event, listener] of this.#listeners) this.socket.off(event, listener);
    this.#listeners.length = 0;
  }
}

function resetOrDestroy(socket: Socket): void {
  // Only TCP has a reset; a socket that is still connecting would wait for its connection first.
  const isTcp = internals(socket)._handle?.constructor.name === 'TCP';
  if (isTcp && !socket.connecting && !socket.destroyed) socket.resetAndDestroy();
  else socket.destroy();
}
