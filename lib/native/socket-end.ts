// One end of a native transfer: it is connected and flushed, given to the core, and afterwards given back or destroyed.
import type { Socket } from 'node:net';
import { now } from '../contract/clock.js';
import { account, type Moved } from '../node/byte-counters.js';
import type { NativeEndpoint } from '../endpoint/endpoint.js';
import type { Openable } from '../endpoint/preparable.js';
import {
  alreadyDestroyed,
  type Failure,
  idle,
  nodeFailure,
  notStopped,
  refusalFailure,
  socketDestroyed,
  systemFailure,
} from '../contract/errors.js';
import { HeldReads } from '../node/held-reads.js';
import { HeldWrites } from '../node/held-writes.js';
import type { PreopenedFile } from '../core/core-file.js';
import { type NativeEnd, type NativeTransfer, openEnd, startNative } from '../core/core.js';
import { descriptorOf, isTcp } from '../node/internals.js';
import { attempt } from '../transfer/attempt.js';
import { TimeLimit } from '../transfer/time-limit.js';
import type { Side } from '../contract/traffic.js';

function nothing(): void {}

/** How the socket of a relay is destroyed. */
interface Destruction {
  ended: boolean;
  reset: boolean;
  error: Error | undefined;
}

/** A socket, or a descriptor given as a number, as one end of a native transfer. */
export class SocketEnd implements Openable {
  readonly side: Side;
  readonly isFramed = false;
  readonly socket: Socket | undefined;
  /** Present on a socket that is read from, once it was taken over. */
  reads: HeldReads | undefined;
  /** Present on a socket that is written to, once it was taken over. */
  writes: HeldWrites | undefined;
  /** Whether its owner has ended the socket before the relay could start. */
  isEndDue = false;
  readonly #descriptor: NativeEnd | undefined;
  readonly #unavailable: Failure | undefined;
  #isListening = false;
  #wasConnecting = false;
  /** Set once it listens to 'close'. */
  #onClose: (() => void) | undefined;
  #onConnect: (() => void) | undefined;
  #watch: NativeTransfer | undefined;
  #ready = false;
  #idle: TimeLimit | undefined;
  #stopAccounting = nothing;
  #sawClose = false;
  #closed = nothing;

  constructor(endpoint: NativeEndpoint) {
    const { side } = endpoint;
    this.side = side;
    this.#descriptor = endpoint.kind === 'descriptor' ? endpoint.end : undefined;
    this.#unavailable = endpoint.kind === 'unavailable' ? endpoint.failure : undefined;
    if (endpoint.kind === 'socket') this.socket = endpoint.socket;
  }

  /** Keeps Node from reading and writing the socket. From here on it must be given back or destroyed. */
  takeOver(): void {
    const { socket, side } = this;
    if (socket === undefined) return;
    if (side !== 'destination') this.reads = new HeldReads(socket);
    if (side !== 'source') this.writes = new HeldWrites(socket);
    // Last, because it calls listeners: if one throws, the fields above are set and can be given back.
    this.reads?.pause();
  }

  get isReady(): boolean {
    return this.#ready;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    const { socket, writes, side } = this;
    const done = () => {
      this.#ready = true;
      this.#idle?.stop();
      ready();
    };
    if (socket === undefined) {
      done();
      return;
    }
    if (socket.destroyed) {
      fail(alreadyDestroyed(side, 'socket', socket.errored));
      return;
    }
    if (this.reads?.hasFailed === true) {
      fail(notStopped(side));
      return;
    }
    this.#wasConnecting = socket.connecting;
    // Failures are reported in the result alone. Without a listener, Node would throw them.
    this.#isListening = true;
    socket.on('error', nothing);
    const onClose = () => {
      this.#sawClose = true;
      fail(this.loss);
      this.#closed();
    };
    socket.on('close', onClose);
    this.#onClose = onClose;
    const flush = () => {
      if (writes?.isWriting) writes.flush(done);
      else done();
    };
    if (this.#wasConnecting) {
      this.#onConnect = () => attempt(fail, flush, side);
      socket.on('connect', this.#onConnect);
    } else {
      flush();
    }
    if (!this.#ready && idleTimeout !== undefined) this.#watchIdleness(idleTimeout, fail);
  }

  /** A connect without an answer is idleness, and so is a peer that does not take the bytes Node still has to write. */
  #watchIdleness(limit: number, fail: (failure: Failure) => void): void {
    let [left, since] = [this.writes?.pending, now()];
    const movedAt = () => {
      const pending = this.writes?.pending;
      if (pending !== left) since = now();
      left = pending;
      return since;
    };
    this.#idle = new TimeLimit(limit, movedAt, () => fail(idle()));
  }

  /** The failure of a transfer whose socket is destroyed. */
  get loss(): Failure {
    const { side, socket } = this;
    const cause = socket?.errored ?? null;
    const byNode = this.#ready ? undefined : nodeFailure(side, cause);
    return byNode ?? socketDestroyed(side, cause, this.#wasConnecting && !this.#ready);
  }

  /** The end as a relay takes it: a TCP socket as its number, which the core duplicates. */
  lend(): NativeEnd | number | Failure {
    const { socket } = this;
    const fd = this.#number();
    if (socket === undefined || fd === undefined || !isTcp(socket)) return this.open();
    this.#watch?.abort();
    return fd;
  }

  /** The socket's own descriptor, valid for one call. */
  #number(): number | undefined {
    const { socket } = this;
    return socket === undefined || socket.destroyed ? undefined : descriptorOf(socket);
  }

  /** Sends the bytes that were read of a file if the socket takes all of them without waiting, and counts them. */
  sendNow(file: PreopenedFile, bytes: number): boolean {
    if (!file.sendNow(this.#number() ?? -1)) return false;
    this.account(
      () => ({ read: 0, written: bytes }),
      () => 0,
    );
    return true;
  }

  open(): NativeEnd | Failure {
    this.#watch?.abort();
    if (this.#descriptor !== undefined) return this.#descriptor;
    if (this.#unavailable !== undefined) return this.#unavailable;
    // A flush can call back after a destroy() whose 'close' event is still to come.
    if (this.socket?.destroyed === true) return this.loss;
    const fd = this.socket === undefined ? undefined : descriptorOf(this.socket);
    const opened = openEnd(fd ?? -1, this.side, this.socket !== undefined && isTcp(this.socket));
    if (opened.end !== undefined) return opened.end;
    return refusalFailure(opened.refusal, this.side);
  }

  /**
   * Watches the socket for a reset by its peer while the other end is still connecting: Node does not read from it any
   * more and would not notice.
   */
  guard(fail: (failure: Failure) => void): void {
    const fd = this.socket === undefined ? undefined : descriptorOf(this.socket);
    const opened = fd === undefined ? undefined : openEnd(fd, this.side);
    const end = opened?.end;
    if (end === undefined || this.#watch !== undefined) return;
    this.#watch = startNative(
      (core, id) => core.waitForError(id, end),
      ({ error }) => {
        if (error?.errno !== undefined) fail(systemFailure(error.errno, error.syscall ?? '', this.side));
      },
    );
  }

  /** Queues writes from JavaScript until {@link hold}. */
  queue(): void {
    this.writes?.queue({ ignoresCork: true });
  }

  /** From here on only the transfer writes to the system, and `written` counts for the socket. */
  hold(written: () => number, idleMs: () => number): void {
    this.writes?.hold();
    this.account(() => ({ read: 0, written: written() }), idleMs);
  }

  /** From here on the bytes that the core moves count for the socket; `idleMs` is the time since the last of them. */
  account(moved: () => Moved, idleMs: () => number): void {
    if (this.socket !== undefined) this.#stopAccounting = account(this.socket, moved, idleMs);
  }

  /** Whether the end is a number. Node does not know its socket, so the core has to end it. */
  get isNumber(): boolean {
    return this.socket === undefined;
  }

  /** Ends the socket after everything that was written to it. */
  end(): void {
    this.socket?.end();
  }

  /** Stops the watch, and closes a duplicate that no transfer took. */
  release(): void {
    this.#watch?.abort();
    this.#descriptor?.release();
  }

  /** Destroys a socket that the core has broken off, because a call holds it that has not returned. */
  breakOff(): void {
    this.socket?.destroy();
  }

  /** Gives the end back to its owner as it was, with `unread` first in line to be read. */
  giveBack(unread: Uint8Array = Buffer.alloc(0)): void {
    this.#stopAccounting();
    this.release();
    this.#stopListening();
    this.reads?.giveBack(unread);
    this.writes?.giveBack();
  }

  /**
   * Destroys the socket and calls `closed` when it is closed, or with the error that its `destroy` has thrown. A socket
   * whose input has `ended` emits 'end' before, and one that is destroyed with an `error` emits it.
   * There are no promises here: they would be a third of the time that a short relay costs this thread.
   */
  destroy({ ended, reset, error: failed }: Destruction, closed: (error?: Error) => void): void {
    this.#stopAccounting();
    this.release();
    const { socket } = this;
    if (socket === undefined) {
      closed();
      return;
    }
    // Without a listener, Node would throw the error of a socket that was destroyed before the transfer listened.
    if (!this.#isListening) socket.on('error', nothing);
    let isReleased = false;
    let isDone = false;
    const release = () => {
      if (isReleased) return;
      isReleased = true;
      this.reads?.release();
      this.writes?.release();
      try {
        if (reset) resetOrDestroy(socket);
        else socket.destroy(failed);
      } catch (error) {
        done(error as Error);
      }
    };
    const done = (error?: Error) => {
      release();
      if (isDone) return;
      isDone = true;
      socket.off('end', release);
      this.#stopListening();
      closed(error);
    };
    // After a destroy() by JavaScript, `closed` is true well before 'close' is emitted.
    if (this.#onClose !== undefined ? this.#sawClose : socket.closed) {
      done();
      return;
    }
    try {
      if (this.#onClose !== undefined) this.#closed = done;
      else socket.once('close', () => done());
      if (ended && !socket.destroyed && !socket.readableEnded) {
        // 'end' is emitted in the next tick, and not at all once the socket is destroyed.
        socket.on('end', release);
        socket.push(null);
        socket.read(0);
        return;
      }
    } catch (error) {
      done(error as Error);
    }
    release();
  }

  #stopListening(): void {
    this.#idle?.stop();
    if (this.socket === undefined || !this.#isListening) return;
    this.#isListening = false;
    this.socket.off('error', nothing);
    if (this.#onClose !== undefined) this.socket.off('close', this.#onClose);
    if (this.#onConnect !== undefined) this.socket.off('connect', this.#onConnect);
    this.#onClose = undefined;
    this.#onConnect = undefined;
  }
}

function resetOrDestroy(socket: Socket): void {
  // Only TCP has a reset. A socket that is still connecting would wait for its connection first, and one that is being
  // shut down would never be closed.
  const isEnding = socket.writableEnded && !socket.writableFinished;
  const canReset = isTcp(socket) && !socket.connecting && !socket.destroyed && !isEnding;
  if (canReset) socket.resetAndDestroy();
  else socket.destroy();
}
