// The connection that connect() resolves with: who uses it, and what carries it.
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { connectionInUse } from '../contract/connect-errors.js';
import { partsOf } from '../contract/connect-settings.js';
import type { Connection } from '../contract/connection.js';
import {
  alreadyDestroyed,
  alreadyEnded,
  type Failure,
  socketDestroyed,
  systemFailure,
} from '../contract/errors.js';
import type { Address } from '../contract/server-types.js';
import type { Side } from '../contract/traffic.js';
import { describeErrno } from '../contract/errno.js';
import type { NativeEnd } from '../core/core.js';
import { isTcp } from '../node/internals.js';

/** A transfer that uses connections. */
export interface User {
  readonly transfer: Promise<unknown>;
  fail(failure: Failure): void;
  /** Called once, before the promise settles. */
  settling: (() => void) | undefined;
}

/** A socket has a handle, which is no garbage without its owner. */
const abandoned = new FinalizationRegistry<Socket>((socket) => socket.destroy());

function nothing(): void {}

/**
 * A connection. The core carries it, with one descriptor and no socket of Node's. A transfer on streams needs a socket,
 * which then carries the connection from there on; without a core that is so from the start.
 */
export class OpenConnection implements Connection {
  readonly target: string;
  readonly connectMs: number;
  readonly #local: string;
  readonly #remote: string;
  #carrier: NativeEnd | Socket;
  #state: 'free' | 'lent' | 'taken' | 'closed' = 'free';
  /** The transfer that uses it. */
  #user: User | undefined;
  #side: Side | undefined;
  #resets = false;
  /** Whether a copy has ended it, where the core carries it. */
  #isWriteEnded = false;

  /** The addresses are in the form of a target; those of a Unix socket without a name are `unix:`. */
  constructor(target: string, carrier: NativeEnd | Socket, local: string, remote: string, connectMs: number) {
    this.target = target;
    this.connectMs = connectMs;
    this.#carrier = carrier;
    this.#local = local;
    this.#remote = remote;
    if (carrier instanceof Socket) this.#watch(carrier);
  }

  get localAddress(): Address {
    return addressOf(this.#local);
  }

  get remoteAddress(): Address {
    return addressOf(this.#remote);
  }

  close(): void {
    this.#close(false);
  }

  reset(): void {
    this.#close(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const user = this.#user;
    this.close();
    await user?.transfer.catch(nothing);
  }

  /** The core's end of it; `undefined` where a socket carries it. */
  get end(): NativeEnd | undefined {
    return this.#carrier instanceof Socket ? undefined : this.#carrier;
  }

  get isWriteEnded(): boolean {
    return this.#isWriteEnded;
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  /** Why it cannot be this end of a transfer now. */
  unusable(side: Side): Failure | undefined {
    if (this.#state === 'closed') return alreadyDestroyed(side, 'connection', null);
    if (this.#state !== 'free') return connectionInUse(side, this.#state === 'taken');
    return side === 'destination' && this.#isWriteEnded ? alreadyEnded(side) : undefined;
  }

  /** Gives it to a transfer, to a relay for good. */
  lend(user: User, side: Side): void {
    const isRelay = side === 'a' || side === 'b';
    this.#state = isRelay ? 'taken' : 'lent';
    this.#user = user;
    this.#side = side;
    if (isRelay && this.#carrier instanceof Socket) abandoned.unregister(this);
  }

  /** The transfer has ended. */
  takeBack(): void {
    this.#user = undefined;
    this.#side = undefined;
    if (this.#state === 'lent') this.#state = 'free';
    else if (this.#state === 'closed') this.#release();
  }

  /** The core has ended it after a copy. */
  noteWriteEnded(): void {
    this.#isWriteEnded = true;
  }

  /** Returns bytes of a failed copy to it, for the next transfer. */
  unshift(bytes: Uint8Array): void {
    this.socket().unshift(bytes);
  }

  /** The socket that carries it from here on. Throws the failed system call if there is no descriptor for it. */
  socket(): Socket {
    const carrier = this.#carrier;
    if (carrier instanceof Socket) return carrier;
    const fd = carrier.detach();
    if (typeof fd !== 'number') throw systemError(fd.errno ?? 0, fd.syscall ?? '');
    let socket;
    try {
      socket = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    if (this.#isWriteEnded) socket.end();
    this.#carrier = socket;
    this.#watch(socket);
    return socket;
  }

  #watch(socket: Socket): void {
    // Between two transfers nothing else listens, and Node would throw its error.
    socket.on('error', nothing);
    if (this.#state !== 'taken') abandoned.register(this, socket, this);
  }

  #close(resets: boolean): void {
    const state = this.#state;
    if (state === 'closed') return;
    if (state !== 'taken') {
      this.#state = 'closed';
      this.#resets = resets;
    }
    if (state === 'free') this.#release();
    else if (this.#side !== undefined) this.#user?.fail(socketDestroyed(this.#side, null, false));
  }

  #release(): void {
    const carrier = this.#carrier;
    if (!(carrier instanceof Socket)) {
      if (this.#resets) carrier.reset();
      else carrier.release();
      return;
    }
    abandoned.unregister(this);
    if (this.#resets && isTcp(carrier) && !carrier.destroyed) carrier.resetAndDestroy();
    else carrier.destroy();
  }
}

/** Gives the connections among the ends to a transfer, until it settles. */
export function lendConnections(
  user: User,
  ends: readonly { side: Side; connection?: OpenConnection }[],
): void {
  const lent = ends.filter((end) => end.connection !== undefined);
  if (lent.length === 0) return;
  for (const { connection, side } of lent) connection?.lend(user, side);
  user.settling = () => {
    for (const { connection } of lent) connection?.takeBack();
  };
}

function addressOf(text: string): Address {
  const { path, host, port } = partsOf(text) as { path?: string; host: string; port: number };
  return path === undefined
    ? { address: host, port, family: host.includes(':') ? 'IPv6' : 'IPv4' }
    : { path };
}

function systemError(errno: number, syscall: string): Error {
  const [code] = describeErrno(errno);
  return Object.assign(new Error(systemFailure(errno, syscall).message), { errno, code, syscall });
}
