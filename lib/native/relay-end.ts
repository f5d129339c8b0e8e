// One end of a native relay: it is connected and flushed, lent to the core, and destroyed when the relay has ended.
import type { Socket } from 'node:net';
import { now } from '../contract/clock.js';
import {
  alreadyDestroyed,
  type Failure,
  idle,
  nodeFailure,
  notStopped,
  refusalFailure,
  socketDestroyed,
  systemFailure,
  taken,
} from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';
import { type NativeEnd, type NativeTransfer, openEnd, startNative } from '../core/core.js';
import type { OpenConnection } from '../endpoint/connection.js';
import type { NativeEndpoint } from '../endpoint/endpoint.js';
import { account, type Moved, type Running, stopAccounting } from '../node/byte-counters.js';
import type { RelayedCall } from '../node/held-calls.js';
import { takeBuffered } from '../node/held-reads.js';
import { flush, isWriting, pendingBytes } from '../node/held-writes.js';
import { descriptorOf, isNodeReading, isTcp } from '../node/internals.js';
import type { PropertyOverlay } from '../node/overlay.js';
import {
  ignoreErrors,
  isRelayed,
  listen,
  refuseCalls,
  releaseSocket,
  type SocketOwner,
  stopListening,
  takeSocket,
} from '../node/relayed-socket.js';
import { attempt } from '../transfer/attempt.js';
import { TimeLimit } from '../transfer/time-limit.js';

/** The relay that an end belongs to. */
export interface RelayOfEnd {
  fail(failure: Failure): void;
  /** Called once when the end can be lent to the core. */
  ready(): void;
  /** Called when the owner of the socket calls one of its methods. */
  called(end: RelayEnd, call: RelayedCall): void;
  /** What the core has moved for this end so far, without what Node had read itself. */
  movedFor(end: RelayEnd): Moved;
  readonly idleMs: number;
}

/** Parts that few ends have, most of them only until the relay starts. */
interface Rare {
  /** The transfer that watches for a reset. */
  watch?: NativeTransfer;
  idle?: TimeLimit;
  overlay?: PropertyOverlay | undefined;
}

/** A socket, or a descriptor given as a number, as one end of a native relay. */
export class RelayEnd implements SocketOwner, Running {
  readonly side: Side;
  readonly socket: Socket | undefined;
  /** Bytes to deliver before anything that is read from the end. Absent once the core has them. */
  head: Uint8Array | undefined;
  /** How many bytes of the head were given or had been read by Node, so that Node has counted them. */
  readByNode = 0;
  /** Whether its owner has ended the socket before the relay could start. */
  isEndDue = false;
  /** The `allowHalfOpen` that the socket had before the relay; `true` for a number. */
  readonly isHalfOpen: boolean;
  readonly #relay: RelayOfEnd;
  /** Present where the end is a connection that the core carries. */
  readonly connection: OpenConnection | undefined;
  /** The result of opening a number, or the end of the connection. */
  readonly #opened: NativeEnd | Failure | undefined;
  #phase: 'new' | 'connecting' | 'flushing' | 'ready' | 'closed' = 'new';
  #rare: Rare | undefined;
  /** Called when the socket is closed, once it is destroyed. */
  #closed: (() => void) | undefined;

  constructor(relay: RelayOfEnd, endpoint: NativeEndpoint) {
    this.#relay = relay;
    this.side = endpoint.side;
    this.socket = endpoint.kind === 'socket' ? endpoint.socket : undefined;
    this.isHalfOpen = this.socket?.allowHalfOpen ?? true;
    this.connection = endpoint.kind === 'connection' ? endpoint.connection : undefined;
    if (endpoint.kind === 'descriptor') this.#opened = endpoint.end;
    else if (endpoint.kind === 'connection') this.#opened = endpoint.connection.end;
    else if (endpoint.kind === 'unavailable') this.#opened = endpoint.failure;
  }

  get isReady(): boolean {
    return this.#phase === 'ready';
  }

  /** Keeps Node from reading the socket, and with `refuses` its owner from writing to it. From here on it must be destroyed. */
  takeOver(refuses: boolean): void {
    const { socket } = this;
    if (socket === undefined) return;
    if (isRelayed(socket)) {
      // By a listener of the other end.
      this.#relay.fail(taken(this.side));
      return;
    }
    const wasFlowing = socket.readableFlowing === true;
    // One that is destroyed may still be the end of a relay before, which waits for its 'close'.
    if (!socket.destroyed) this.#keep(takeSocket(socket, this, refuses));
    // Last, because it calls listeners.
    if (wasFlowing) socket.pause();
  }

  /** Refuses writes of the socket's owner from here on. */
  refuse(): void {
    if (this.socket !== undefined) this.#keep(refuseCalls(this.socket, this.#rare?.overlay));
  }

  #keep(overlay: PropertyOverlay | undefined): void {
    if (overlay !== undefined) (this.#rare ??= {}).overlay = overlay;
  }

  called(call: RelayedCall): void {
    this.#relay.called(this, call);
  }

  /** Calls the relay's `ready` when the end can be given to the core, which may be before this returns. */
  prepare(idleTimeout: number | undefined): void {
    const { socket, side } = this;
    if (socket === undefined) {
      this.#ready();
      return;
    }
    if (socket.destroyed) {
      this.#relay.fail(alreadyDestroyed(side, 'socket', socket.errored));
      return;
    }
    if (isNodeReading(socket)) {
      this.#relay.fail(notStopped(side));
      return;
    }
    const phase = socket.connecting ? 'connecting' : 'flushing';
    listen(socket);
    // After `listen`: a listener for 'newListener' may throw, and then 'close' is not reported to this end.
    this.#phase = phase;
    if (this.#phase === 'flushing') this.#flush(socket);
    if (!this.isReady && idleTimeout !== undefined) this.#watchIdleness(socket, idleTimeout);
  }

  #flush(socket: Socket): void {
    if (isWriting(socket)) flush(socket, () => this.#ready());
    else this.#ready();
  }

  #ready(): void {
    // A flush can call back after a destroy() whose 'close' event is still to come.
    if (this.#phase !== 'closed') this.#phase = 'ready';
    this.#rare?.idle?.stop();
    this.#relay.ready();
  }

  connected(): void {
    const { socket } = this;
    if (socket === undefined) return;
    attempt(
      (failure) => this.#relay.fail(failure),
      () => this.#flush(socket),
      this.side,
    );
  }

  closed(): void {
    const { loss } = this;
    this.#phase = 'closed';
    this.#relay.fail(loss);
    this.#closed?.();
  }

  /** A connect without an answer is idleness, and so is a peer that does not take the bytes Node still has to write. */
  #watchIdleness(socket: Socket, limit: number): void {
    let [left, since] = [pendingBytes(socket), now()];
    const movedAt = () => {
      const pending = pendingBytes(socket);
      if (pending !== left) since = now();
      left = pending;
      return since;
    };
    (this.#rare ??= {}).idle = new TimeLimit(limit, movedAt, () => this.#relay.fail(idle()));
  }

  /** The failure of a relay whose socket is destroyed. */
  get loss(): Failure {
    const { side, socket } = this;
    const cause = socket?.errored ?? null;
    const byNode = this.isReady ? undefined : nodeFailure(side, cause);
    return byNode ?? socketDestroyed(side, cause, this.#phase === 'connecting');
  }

  /** The end for the core: the number of a TCP socket, which the core duplicates, or an opened end. */
  lend(): NativeEnd | number | Failure {
    this.#rare?.watch?.abort();
    const { side, socket } = this;
    if (this.#opened !== undefined) return this.#opened;
    // A flush can call back after a destroy() whose 'close' event is still to come.
    if (socket === undefined || socket.destroyed) return this.loss;
    const fd = descriptorOf(socket);
    if (fd !== undefined && isTcp(socket)) return fd;
    const opened = openEnd(fd ?? -1, side);
    return opened.end ?? refusalFailure(opened.refusal, side);
  }

  /** Closes an end that was lent for a relay which then did not start. One that was there before is closed by {@link destroy}. */
  takeBack(lent: NativeEnd | number | Failure): void {
    if (!isFailure(lent) && typeof lent !== 'number' && lent !== this.#opened) lent.release();
  }

  /** Takes the bytes that Node has read. */
  takeUnread(): Uint8Array | undefined {
    const { socket } = this;
    return socket === undefined || socket.readableLength === 0 ? undefined : takeBuffered(socket);
  }

  /**
   * Watches the socket for a reset by its peer while the other end is still connecting: Node does not read from it any
   * more and would not notice.
   */
  guard(): void {
    const fd = this.socket === undefined ? this.connection?.end?.fd : descriptorOf(this.socket);
    const end = fd === undefined ? undefined : openEnd(fd, this.side).end;
    if (end === undefined || this.#rare?.watch !== undefined) return;
    (this.#rare ??= {}).watch = startNative(
      (core, id) => core.waitForError(id, end),
      ({ error }) => {
        if (error?.errno === undefined) return;
        this.#relay.fail(systemFailure(error.errno, error.syscall ?? '', this.side));
      },
    );
  }

  /** From here on the bytes that the core moves count for the socket. */
  account(): void {
    if (this.socket !== undefined) account(this.socket, this);
  }

  moved(): Moved {
    return this.#relay.movedFor(this);
  }

  idleMs(): number {
    return this.#relay.idleMs;
  }

  /**
   * Destroys the socket and calls `closed` when it is closed, or with the error that its `destroy` has thrown. A socket
   * whose input has `ended` emits 'end' before, and one that is destroyed with an `error` emits it.
   * It uses no promises, because they would take a third of the time that a short relay takes on this thread.
   */
  destroy(ended: boolean, reset: boolean, failed: Error | undefined, closed: (error?: Error) => void): void {
    const { socket } = this;
    this.#rare?.watch?.abort();
    if (this.#opened !== undefined && !isFailure(this.#opened)) {
      if (reset && this.connection !== undefined) this.#opened.reset();
      else this.#opened.release();
    }
    if (socket === undefined) {
      closed();
      return;
    }
    stopAccounting(socket, this);
    let isReleased = false;
    let isDone = false;
    const release = () => {
      if (isReleased) return;
      isReleased = true;
      try {
        releaseSocket(socket, this, this.#rare?.overlay, this.isHalfOpen);
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
      this.#rare?.idle?.stop();
      stopListening(socket, this, !isNew);
      closed(error);
    };
    const isNew = this.#phase === 'new';
    try {
      // Without a listener, Node would throw the error of a socket that was destroyed before the relay listened.
      if (isNew) ignoreErrors(socket);
      // After a destroy() by JavaScript, `closed` is true well before 'close' is emitted.
      if (isNew ? socket.closed : this.#phase === 'closed') {
        done();
        return;
      }
      if (isNew) socket.once('close', () => done());
      else this.#closed = done;
      if (ended && !socket.destroyed && !socket.readableEnded) {
        // 'end' is emitted in the next tick, and not at all once the socket is destroyed.
        socket.on('end', release);
        // What an owner has put into its buffer with push() or unshift() would keep back 'end' for good.
        if (socket.readableLength > 0) takeBuffered(socket);
        socket.push(null);
        socket.read(0);
        return;
      }
    } catch (error) {
      done(error as Error);
    }
    release();
  }
}

export function isFailure(opened: NativeEnd | number | Failure): opened is Failure {
  return typeof opened !== 'number' && 'code' in opened;
}

function resetOrDestroy(socket: Socket): void {
  // Only TCP has a reset. A socket that is still connecting would wait for its connection first, and one that is being
  // shut down would never be closed.
  const isEnding = socket.writableEnded && !socket.writableFinished;
  const canReset = isTcp(socket) && !socket.connecting && !socket.destroyed && !isEnding;
  if (canReset) socket.resetAndDestroy();
  else socket.destroy();
}
