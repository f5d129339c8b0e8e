// One end of a native copy or sendFile: it is connected and flushed, given to the core, and afterwards given back.
import type { Socket } from 'node:net';
import { now } from '../contract/clock.js';
import { account, type Moved, type Running, stopAccounting } from '../node/byte-counters.js';
import type { OpenConnection } from '../endpoint/connection.js';
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

/** A socket, or a descriptor given as a number, as one end of a native copy or sendFile. */
export class SocketEnd implements Openable {
  readonly side: Side;
  readonly isFramed = false;
  readonly socket: Socket | undefined;
  /** Present on a socket that is read from, once it was taken over. */
  reads: HeldReads | undefined;
  /** Present on a socket that is written to, once it was taken over. */
  writes: HeldWrites | undefined;
  readonly #connection: OpenConnection | undefined;
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
  #running: Running | undefined;

  constructor(endpoint: NativeEndpoint) {
    const { side } = endpoint;
    this.side = side;
    this.#connection = endpoint.kind === 'connection' ? endpoint.connection : undefined;
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
    const onClose = () => fail(this.loss);
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

  /** The descriptor of the socket or connection, valid for one call. */
  get #fd(): number | undefined {
    return this.socket === undefined ? this.#connection?.end?.fd : descriptorOf(this.socket);
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
    const opened = openEnd(this.#fd ?? -1, this.side, this.socket !== undefined && isTcp(this.socket));
    if (opened.end !== undefined) return opened.end;
    return refusalFailure(opened.refusal, this.side);
  }

  /**
   * Watches the socket for a reset by its peer while the other end is still connecting: Node does not read from it any
   * more and would not notice.
   */
  guard(fail: (failure: Failure) => void): void {
    const fd = this.#fd;
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
    if (this.socket === undefined) return;
    this.#running = { moved, idleMs };
    account(this.socket, this.#running);
  }

  /** Whether bytes that were read and not delivered can go back to it. */
  get takesBack(): boolean {
    if (this.socket === undefined) return this.#connection !== undefined && !this.#connection.isClosed;
    return !this.socket.destroyed;
  }

  /** Whether the end is a number or a connection. Node does not know its socket, so the core has to end it. */
  get isNumber(): boolean {
    return this.socket === undefined;
  }

  /** Ends the socket after everything that was written to it. The core has ended a connection already. */
  end(): void {
    this.socket?.end();
    this.#connection?.noteWriteEnded();
  }

  /** Stops the watch, and closes a duplicate that no transfer took. */
  release(): void {
    this.#watch?.abort();
    this.#descriptor?.release();
  }

  /** Destroys a socket that the core has broken off, because a call holds it that has not returned. */
  breakOff(): void {
    this.socket?.destroy();
    this.#connection?.reset();
  }

  /** Gives the end back to its owner as it was, with `unread` first in line to be read. */
  giveBack(unread: Uint8Array = Buffer.alloc(0)): void {
    if (this.socket !== undefined && this.#running !== undefined) stopAccounting(this.socket, this.#running);
    this.release();
    this.#stopListening();
    if (this.#connection !== undefined && this.takesBack && unread.length > 0)
      this.#connection.unshift(unread);
    this.reads?.giveBack(unread);
    this.writes?.giveBack();
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
