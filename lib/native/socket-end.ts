import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { account, type Moved } from '../node/byte-counters.js';
import type { NativeEndpoint } from '../endpoint/endpoint.js';
import type { Preparable } from '../endpoint/preparable.js';
import {
  alreadyDestroyed,
  type Failure,
  idle,
  nodeFailure,
  socketDestroyed,
  systemFailure,
  wrongKind,
} from '../contract/errors.js';
import { HeldReads } from '../node/held-reads.js';
import { HeldWrites } from '../node/held-writes.js';
import type { PreopenedFile } from '../core/core-file.js';
import { type NativeEnd, type NativeTransfer, openEnd, startNative } from '../core/core.js';
import { descriptorOf, handleKind } from '../node/plain-socket.js';
import { TimeLimit } from '../transfer/time-limit.js';
import type { Side } from '../contract/traffic.js';

function nothing(): void {}

/** What can be given to the core when it is ready. */
export interface Openable extends Preparable {
  /** The core's own duplicate; or why there is none. */
  open(): NativeEnd | Failure;
}

/** An end that is being made ready: connected, flushed, its unread bytes at hand. */
export class SocketEnd implements Openable {
  readonly side: Side;
  readonly socket: Socket | undefined;
  /** Present on a socket that is read from. */
  readonly reads: HeldReads | undefined;
  /** Present on a socket that is written to. */
  readonly writes: HeldWrites | undefined;
  readonly #descriptor: NativeEnd | undefined;
  readonly #unavailable: Failure | undefined;
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
    if (endpoint.kind !== 'socket') return;
    this.socket = endpoint.socket;
    if (side !== 'destination') this.reads = new HeldReads(endpoint.socket);
    if (side !== 'source') this.writes = new HeldWrites(endpoint.socket);
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
    const wasConnecting = socket.connecting;
    // Failures are in the result alone: without a listener, Node would throw them.
    socket.on('error', nothing);
    this.#onClose = () => {
      this.#sawClose = true;
      fail(this.#destroyed(wasConnecting && !this.#ready));
      this.#closed();
    };
    socket.on('close', this.#onClose);
    const flush = () => {
      if (writes?.isWriting) writes.flush(done);
      else done();
    };
    if (wasConnecting) {
      this.#onConnect = flush;
      socket.on('connect', flush);
    } else {
      flush();
    }
    if (!this.#ready && idleTimeout !== undefined) this.#watchIdleness(idleTimeout, fail);
  }

  /** A connect that nobody answers is idleness, and so is a peer that does not take what Node has to write before. */
  #watchIdleness(limit: number, fail: (failure: Failure) => void): void {
    let [left, since] = [this.writes?.pending, performance.now()];
    const movedAt = () => {
      const now = this.writes?.pending;
      if (now !== left) since = performance.now();
      left = now;
      return since;
    };
    this.#idle = new TimeLimit(limit, movedAt, () => fail(idle()));
  }

  #destroyed(whileConnecting: boolean): Failure {
    const { side, socket } = this;
    const cause = socket?.errored ?? null;
    return (
      (this.#ready ? undefined : nodeFailure(side, cause)) ?? socketDestroyed(side, cause, whileConnecting)
    );
  }

  /** For a relay: of a TCP socket the number alone, which the core duplicates when it takes it. */
  lend(): NativeEnd | number | Failure {
    const { socket } = this;
    const fd = this.#number();
    if (socket === undefined || fd === undefined || handleKind(socket) !== 'TCP') return this.open();
    this.#watch?.abort();
    return fd;
  }

  /** The socket's own, for one call. */
  #number(): number | undefined {
    const { socket } = this;
    return socket === undefined || socket.destroyed ? undefined : descriptorOf(socket);
  }

  /** Sends all that was read of a file, if the socket takes it without waiting; it counts as the socket's. */
  sendNow(file: PreopenedFile, bytes: number): boolean {
    if (!file.sendNow(this.#number() ?? -1)) return false;
    this.account(() => ({ read: 0, written: bytes }));
    return true;
  }

  open(): NativeEnd | Failure {
    this.#watch?.abort();
    if (this.#descriptor !== undefined) return this.#descriptor;
    if (this.#unavailable !== undefined) return this.#unavailable;
    // A flush can call back behind a destroy() whose 'close' is still to come.
    if (this.socket?.destroyed === true) return this.#destroyed(false);
    const fd = this.socket === undefined ? undefined : descriptorOf(this.socket);
    const opened = openEnd(
      fd ?? -1,
      this.side,
      this.socket !== undefined && handleKind(this.socket) === 'TCP',
    );
    if (opened.end !== undefined) return opened.end;
    const { found, errno, syscall } = opened.refusal;
    if (errno !== undefined && syscall !== undefined) return systemFailure(errno, syscall, this.side);
    return wrongKind(this.side, found);
  }

  /**
   * Node does not read from the socket while the other end is still connecting, so it would not see that its peer has
   * hung up.
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

  /** Keeps writes from JavaScript waiting until {@link hold}. */
  queue(): void {
    this.writes?.queue();
  }

  /** From here on the transfer alone writes, and what it writes counts as the socket's. */
  hold(written: () => number): void {
    this.writes?.hold();
    this.account(() => ({ read: 0, written: written() }));
  }

  /** What the core moves counts as the socket's from here on. */
  account(moved: () => Moved): void {
    if (this.socket !== undefined) this.#stopAccounting = account(this.socket, moved);
  }

  /** Whether the transfer itself has to end it: a number, whose socket Node does not know. */
  get isNumber(): boolean {
    return this.socket === undefined;
  }

  /** Ends it behind what was written to it. */
  end(): void {
    this.socket?.end();
  }

  /** Ends the watch, and closes a duplicate that no transfer took. */
  release(): void {
    this.#watch?.abort();
    this.#descriptor?.release();
  }

  /** Gives the end back to its owner as it was, `unread` first in line to be read. */
  giveBack(unread: Uint8Array = Buffer.alloc(0)): void {
    this.#stopAccounting();
    this.release();
    this.#stopListening();
    this.reads?.giveBack(unread);
    this.writes?.giveBack();
  }

  /**
   * Emits 'end' on a socket that ended and has told nobody, and destroys it; calls back when it is closed. Without
   * promises of its own: they would be a third of what a short relay costs this thread.
   */
  destroy({ ended, reset }: { ended: boolean; reset: boolean }, closed: () => void): void {
    this.#stopAccounting();
    this.release();
    const { socket } = this;
    if (socket === undefined) {
      closed();
      return;
    }
    let isLetGo = false;
    const letGo = () => {
      if (isLetGo) return;
      isLetGo = true;
      this.reads?.release();
      this.writes?.release();
      if (reset) resetOrDestroy(socket);
      else socket.destroy();
    };
    const done = () => {
      letGo();
      socket.off('end', letGo);
      this.#stopListening();
      closed();
    };
    // Of one that JavaScript has destroyed, `closed` is true well before 'close' is emitted.
    if (this.#onClose !== undefined ? this.#sawClose : socket.closed) {
      done();
      return;
    }
    if (this.#onClose !== undefined) this.#closed = done;
    else socket.once('close', done);
    if (ended && !socket.destroyed && !socket.readableEnded) {
      // 'end' is emitted in the next tick, and not at all once the socket is destroyed.
      socket.on('end', letGo);
      socket.push(null);
      socket.read(0);
    } else {
      letGo();
    }
  }

  #stopListening(): void {
    this.#idle?.stop();
    if (this.socket === undefined || this.#onClose === undefined) return;
    this.socket.off('error', nothing).off('close', this.#onClose);
    if (this.#onConnect !== undefined) this.socket.off('connect', this.#onConnect);
    this.#onClose = undefined;
    this.#onConnect = undefined;
  }
}

function resetOrDestroy(socket: Socket): void {
  // Only TCP has a reset; a socket that is still connecting would wait for its connection first, and one whose end is
  // under way would never be closed.
  const isEnding = socket.writableEnded && !socket.writableFinished;
  const canReset = handleKind(socket) === 'TCP' && !socket.connecting && !socket.destroyed && !isEnding;
  if (canReset) socket.resetAndDestroy();
  else socket.destroy();
}
