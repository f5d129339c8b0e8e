// relayOnPipe(): a relay in place of the pipes that other code lays between two sockets.
import type { Duplex, Readable, Writable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { nextTick } from '../contract/clock.js';
import {
  aborted,
  closedBeforePipe,
  type Failure,
  invalidType,
  invalidValue,
  nodeFailure,
  socketDestroyed,
  TransferError,
} from '../contract/errors.js';
import { type RelaySettings, relaySettings } from '../contract/options.js';
import type { RelayOptions, TrafficResult } from '../contract/types.js';
import { binding } from '../core/core.js';
import { type Endpoint, endpoint } from '../endpoint/endpoint.js';
import { isReadable, isWritable } from '../endpoint/stream-kinds.js';
import { isPipedToItsEnd, pipesOf } from '../node/internals.js';
import { PropertyOverlay } from '../node/overlay.js';
import { onAbort } from '../transfer/abort-signal.js';
import { refused } from '../transfer/transfer.js';
import { checkEnds } from './check-ends.js';
import { startRelay } from './relay.js';

/**
 * Waits until other code joins `socket` to another stream by `socket.pipe(x)` and `x.pipe(socket)`, and relays between the
 * two instead. `socket` is `a` of the relay, `x` is `b`. Both calls must be made in the same synchronous run, in any order.
 *
 * Events: the code that calls `pipe` notices no difference. The sockets emit `'pipe'`, `'end'`, `'error'` and `'close'`,
 * their counts include the relayed bytes, and bytes that a listener for `'connect'` of `x` writes come before relayed bytes.
 * In a plain `relay`, a socket that fails does not emit `'error'`.
 *
 * The pipes stay as they are if a relay could not do the same: one direction alone, `{ end: false }`, a second reader
 * (another pipe, or a listener for `'data'` or `'readable'`), or a stream that `relay` does not accept.
 *
 * Ownership: until both calls of `pipe`, and for as long as the pipes stay, both sockets belong to the other code. From the
 * start of the relay on they belong to the relay, which destroys both at the end. Half-close works as in {@link relay}.
 *
 * Options: those of {@link relay}, with the same units (milliseconds, bytes per second). `signal` applies from the call on
 * and destroys the socket. All other limits apply from the start of the relay on.
 *
 * Result: the promise settles when the relay has ended. It is no {@link Transfer}: it has no `traffic` and no `abort()`.
 *
 * Errors: as for {@link relay}; pass `reject: false` if nothing handles the promise. If the socket closes without a relay,
 * the code is `ERR_STREAM_DESTROYED`. If `x` cannot connect, the error is that of `x`, and both sockets stay with the other
 * code. A second call for a socket that still waits for its pipes is a caller's mistake.
 *
 * @param socket a `net.Socket` or another duplex stream, usually that of a `'connect'` or `'upgrade'` event
 */
export function relayOnPipe(socket: Duplex, options?: RelayOptions): Promise<TrafficResult> {
  try {
    const settings = relaySettings(options);
    if (!isReadable(socket) || !isWritable(socket) || typeof socket.pipe !== 'function')
      throw invalidType('socket', "a duplex stream of Node's, as a net.Socket is", socket);
    if (waiting.has(socket)) throw invalidValue('socket', 'must not wait for its pipes already');
    return new Promise((resolve) => new PipeWatch(socket, settings, resolve).start());
  } catch (mistake) {
    return refused(mistake as Error);
  }
}

/** The sockets whose pipes are awaited. */
const waiting = new WeakSet<Duplex>();

type Settle = (result: TrafficResult | Promise<TrafficResult>) => void;

/** Watches one socket until a relay takes over, or until it closes. */
class PipeWatch {
  readonly #socket: Duplex;
  readonly #settings: RelaySettings;
  readonly #settle: Settle;
  readonly #overlay: PropertyOverlay;
  readonly #undo: (() => void)[] = [];
  /** The stream that the socket was piped to in this run, and those that were piped to it. */
  #target: unknown;
  readonly #sources = new Set<unknown>();
  #isDeciding = false;
  /** The streams that do not flow until the decision, and the overlays for that. */
  readonly #held: Readable[] = [];
  readonly #laid: PropertyOverlay[] = [];
  /** The other end, from the moment on when the pipes to it were taken down. */
  #joined: Duplex | undefined;
  #isOver = false;

  constructor(socket: Duplex, settings: RelaySettings, settle: Settle) {
    this.#socket = socket;
    this.#settings = { ...settings, emitsErrors: true };
    this.#settle = settle;
    this.#overlay = new PropertyOverlay(socket);
  }

  start(): void {
    const socket = this.#socket;
    const { signal } = this.#settings;
    waiting.add(socket);
    this.#undo.push(() => waiting.delete(socket));
    if (socket.destroyed) {
      this.#fail(closedBeforePipe(socket.errored));
      return;
    }
    const abort = (reason: unknown) => {
      this.#fail(aborted(reason));
      socket.destroy();
      this.#joined?.destroy();
    };
    if (signal?.aborted === true) {
      abort(signal.reason);
      return;
    }
    if (signal !== undefined) this.#undo.push(onAbort(signal, abort));
    const pipe = socket.pipe.bind(socket);
    this.#overlay.set('pipe', (target: Writable, options?: { end?: boolean }) => {
      this.#decideSoon();
      this.#target = target;
      pipe(target, options);
      this.#hold(socket);
      if (this.#sources.has(target)) this.#hold(target as Duplex);
      else if (isReadable(target) && target !== socket) this.#holdWhenPiped(target);
      return target;
    });
    this.#undo.push(() => this.#overlay.restore());
    this.#on(socket, 'pipe', (source: unknown) => {
      this.#decideSoon();
      this.#sources.add(source);
    });
    this.#on(socket, 'close', () => this.#fail(closedBeforePipe(socket.errored)));
  }

  /** Stops the flow of a pipe until the decision, so that the relay counts and limits all bytes. */
  #hold(stream: Readable): void {
    if (stream.readableFlowing !== true) return;
    stream.pause();
    this.#held.push(stream);
  }

  #holdWhenPiped(stream: Readable): void {
    const overlay = new PropertyOverlay(stream);
    const pipe = stream.pipe.bind(stream);
    overlay.set('pipe', (target: Writable, options?: { end?: boolean }) => {
      pipe(target, options);
      if (target === this.#socket) this.#hold(stream);
      return target;
    });
    this.#laid.push(overlay);
  }

  /** The pipes are real meanwhile. */
  #decideSoon(): void {
    if (this.#isDeciding) return;
    this.#isDeciding = true;
    nextTick(() => this.#decide());
  }

  #decide(): void {
    const [socket, target] = [this.#socket, this.#target];
    const isJoined = this.#sources.has(target);
    this.#isDeciding = false;
    this.#target = undefined;
    this.#sources.clear();
    for (const overlay of this.#laid.splice(0)) overlay.restore();
    const held = this.#held.splice(0);
    if (isJoined && !this.#isOver && this.#join(socket, target as Duplex)) return;
    // A stream whose pipes were taken down meanwhile keeps its bytes for the next ones.
    for (const stream of held) if (pipesOf(stream).length > 0) stream.resume();
  }

  /** Takes the pipes down, if a relay can take their place. */
  #join(socket: Duplex, other: Duplex): boolean {
    const ends = this.#joined === undefined ? relayableEnds(socket, other) : undefined;
    if (ends === undefined) return false;
    this.#joined = other;
    socket.unpipe(other);
    other.unpipe(socket);
    this.#on(other, 'close', () => {
      const cause = other.errored;
      this.#fail(nodeFailure('b', cause) ?? socketDestroyed('b', cause, true));
    });
    this.#relayWhenConnected([socket, other], ends);
    return true;
  }

  #relayWhenConnected(streams: [Duplex, Duplex], ends: [Endpoint, Endpoint]): void {
    if (this.#isOver) return;
    const pending = streams.find((stream) => 'connecting' in stream && stream.connecting);
    if (pending === undefined) {
      this.#end(startRelay(ends, this.#settings));
      return;
    }
    // Other listeners for the event may still have something to write.
    const connected = () => nextTick(() => this.#relayWhenConnected(streams, ends));
    this.#on(pending, pending instanceof TLSSocket ? 'secureConnect' : 'connect', connected);
  }

  #on<Args extends unknown[]>(stream: Duplex, event: string, listener: (...args: Args) => void): void {
    stream.on(event, listener as (...args: unknown[]) => void);
    this.#undo.push(() => stream.off(event, listener as (...args: unknown[]) => void));
  }

  #fail(failure: Failure): void {
    const { reject } = this.#settings;
    const traffic = { tx: 0, rx: 0, total: 0 };
    const error = new TransferError(failure.message, { ...failure, traffic, afterEnd: false });
    const engine = binding() === undefined ? 'stream' : 'native';
    const result: TrafficResult = { ...traffic, zeroCopy: 0, durationMs: 0, engine, error };
    this.#end(reject ? Promise.reject(error) : result);
  }

  #end(result: TrafficResult | Promise<TrafficResult>): void {
    this.#isOver = true;
    for (const undo of this.#undo.splice(0)) undo();
    this.#settle(result);
  }
}

/** Both ends, if a relay can take the place of the pipes between them. */
function relayableEnds(socket: Duplex, other: Duplex): [Endpoint, Endpoint] | undefined {
  // Every pipe has one listener for 'data'.
  const isOpen = (stream: Duplex) => !stream.destroyed && stream.listenerCount('readable') === 0;
  const isPiped = (stream: Duplex) => stream.listenerCount('data') === 1 && isPipedToItsEnd(stream);
  if (![socket, other].every((stream) => isOpen(stream) && isPiped(stream))) return undefined;
  try {
    return checkEnds(
      () => endpoint('a', socket),
      () => endpoint('b', other),
    );
  } catch {
    return undefined;
  }
}
