// Reads bytes of a transfer from a Node stream.
import { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { types } from 'node:util';
import { nextTick } from '../contract/clock.js';
import { type Failure, streamDestroyed, streamFailure, tlsCutOff } from '../contract/errors.js';
import { isTcp } from '../node/internals.js';
import { markRead, unmarkRead } from '../node/held-reads.js';
import { PropertyOverlay } from '../node/overlay.js';
import { isCutOff, watchTlsEnd } from '../node/tls-end.js';
import type { Side } from '../contract/traffic.js';
import type { Reader } from './flow.js';
import { afterTurns, channelEnd, isHttp2, lossFailure, RESET_TURNS, resetFailure } from './reset.js';

/** Whether the caller goes on to use the stream after the transfer, has given it up, or never had it. */
export type Ownership = 'lent' | 'handed over' | 'own';

/** Reads from a Node stream without emitting 'data', because the bytes are no longer meant for its listeners. */
export class StreamReader implements Reader {
  readonly isTcp: boolean;
  readonly #side: Side;
  readonly #stream: Readable & { allowHalfOpen?: boolean };
  readonly #ownership: Ownership;
  readonly #isStdin: boolean;
  readonly #read: (size?: number) => unknown;
  readonly #overlay: PropertyOverlay;
  readonly #flowing: boolean | null;
  readonly #allowedHalfOpen: boolean | undefined;
  #listeners: [event: string, listener: (error: Error) => void][] = [];
  #failed: (error: Error) => void = () => {};
  #stopWatching: () => void = () => {};
  #ended = false;
  #emitsErrors: boolean;
  /** Whether to read although nothing is buffered: only that shows the end of input. */
  #isReadDue = true;

  /** With `emitsErrors`, a stream that was handed over emits the errors that it had during the transfer. */
  constructor(side: Side, stream: Readable, ownership: Ownership, emitsErrors = false) {
    this.#side = side;
    this.#emitsErrors = emitsErrors;
    this.#stream = stream;
    this.#ownership = ownership;
    this.isTcp = stream instanceof Socket && isTcp(stream);
    // Node creates process.stdin when it is first accessed, so streams without a descriptor are ruled out before.
    this.#isStdin = 'fd' in stream && stream === process.stdin;
    this.#flowing = stream.readableFlowing;
    const stopsAtPause = this.#isStdin || isHttp2(stream);
    this.#overlay = new PropertyOverlay(stream);
    const emit = stream.emit.bind(stream) as (event: string | symbol, ...args: unknown[]) => boolean;
    markRead(stream);
    this.#read = stream.read.bind(stream);
    // Keeps an owner that reads in a listener for 'readable' from the bytes of a relay. Node itself reads 0 bytes. On a
    // Proxy, the property would end up on the target, where it would catch reads through the Proxy.
    if (ownership === 'handed over' && !types.isProxy(stream)) {
      this.#overlay.set('read', (size?: number) => (size === 0 ? this.#read(0) : null));
    }
    this.#overlay.set('emit', (event: string | symbol, ...args: unknown[]) => {
      // Node would stop reading process.stdin a tick after a 'pause', although the transfer has requested more by then.
      // The request of an HTTP/2 compatibility server would stop the stream below, and no read starts that one again.
      if (event === 'data' || (event === 'pause' && stopsAtPause)) return false;
      if (event !== 'error' || ownership === 'lent') return emit(event, ...args);
      // The error of a relay's stream is reported in the result, and stays in `errored`.
      // This may release the stream.
      // Node ends a stream without `allowHalfOpen` at the end of its input, and reports no error that comes later.
      const emitsErrors = this.#emitsErrors && !(this.#ended && this.#allowedHalfOpen === false);
      this.#failed(args[0] as Error);
      return emitsErrors ? emit(event, ...args) : true;
    });
    this.#allowedHalfOpen = this.#stream.allowHalfOpen;
    // Otherwise the end of input would end the other direction as well.
    if (this.#allowedHalfOpen === false) this.#stream.allowHalfOpen = true;
  }

  get isAtEnd(): boolean {
    return this.#ended;
  }

  get isReady(): boolean {
    return this.#ended || this.#isReadDue || this.#stream.readableLength > 0;
  }

  /** A stream that is not read to its end is not closed by itself. A socket is used on afterwards. */
  get awaitsEnd(): boolean {
    return !(this.#stream instanceof Socket);
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    const stream = this.#stream;
    stream.pause();
    if (stream.readableEnded) this.#ended = true;
    this.#failed = (error) => fail(streamFailure(this.#side, error));
    if (this.#ownership === 'lent') this.#on('error', this.#failed);
    let hasEof = channelEnd(stream) === 'eof';
    const failIfReset = (): boolean => {
      const reset =
        resetFailure(this.#side, stream) ?? (hasEof ? undefined : lossFailure(this.#side, stream));
      if (reset !== undefined) fail(reset);
      return reset !== undefined;
    };
    this.#onFirst('aborted', failIfReset);
    this.#onFirst('close', () => {
      if (this.#ended || failIfReset()) return;
      if (stream.readableEnded) end();
      else fail(streamDestroyed(this.#side, stream));
    });
    this.#stopWatching = watchTlsEnd(stream);
    const end = () => {
      if (this.#ended || failIfReset()) return;
      // Peers that have received the end of the other direction often close without an answer.
      if (isCutOff(stream) && (stream as Partial<Duplex>).writableEnded !== true) {
        fail(tlsCutOff(this.#side));
        return;
      }
      this.#ended = true;
      wake();
    };
    this.#onFirst('end', () => {
      if (isHttp2(stream)) afterTurns(RESET_TURNS, end);
      else end();
    });
    this.#on('readable', () => {
      // Node emits this event for an end of input too, also where bytes are still to be read. A later loss takes none of them.
      hasEof ||= channelEnd(stream) === 'eof';
      this.#isReadDue = true;
      wake();
    });
  }

  take(limit: number): Buffer | undefined {
    const stream = this.#stream;
    const chunk = (stream.readableLength > limit ? this.#read(limit) : this.#read()) as Uint8Array | null;
    if (chunk === null) {
      this.#isReadDue = false;
      return undefined;
    }
    const bytes = Buffer.isBuffer(chunk)
      ? chunk
      : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (bytes.length <= limit) return bytes;
    // A source that pushes synchronously adds to its buffer during `read()`, which then returns more than the limit.
    stream.unshift(bytes.subarray(limit));
    return bytes.subarray(0, limit);
  }

  release(rest: Buffer): Promise<Buffer> {
    const stream = this.#stream;
    unmarkRead(stream);
    if (this.#ownership === 'lent') this.restore();
    for (const [event, listener] of this.#listeners) stream.off(event, listener);
    this.#listeners = [];
    this.#stopWatching();
    this.#failed = () => {};
    this.#emitsErrors = false;
    if (this.#ownership !== 'lent') return Promise.resolve(rest);
    if (this.#allowedHalfOpen === false) {
      this.#stream.allowHalfOpen = false;
      // Node ends such a stream at the end of its input, and that moment has passed.
      if (stream.readableEnded) (stream as Duplex).end();
    }
    if (stream.destroyed || stream.readableEnded) return Promise.resolve(rest);
    if (rest.length > 0) stream.unshift(rest);
    if (this.#flowing === true) stream.resume();
    if (this.#flowing !== false && !this.#isStdin) return Promise.resolve(Buffer.alloc(0));
    // A tick after this event Node stops reading a process.stdin without readers, and the process can end.
    if (this.#isStdin && this.#flowing === null) stream.emit('pause');
    // In the next tick Node would make the stream flow, because no listener for 'readable' is left. Calls that the owner
    // makes after the copy have to come after that tick.
    return new Promise((resolve) =>
      nextTick(() => {
        if (this.#flowing === false) stream.pause();
        resolve(Buffer.alloc(0));
      }),
    );
  }

  /** Lets the stream emit its events again. One that was handed over has emitted its last error by then. */
  restore(): void {
    this.#overlay.restore();
  }

  /** What owners do in their listeners, as to an end of input that is a failure, must not come before the report. */
  #onFirst(event: string, listener: () => void): void {
    // Not every look-alike of a stream has this method.
    if (this.#ownership === 'lent' || typeof this.#stream.prependListener !== 'function') {
      this.#on(event, listener);
      return;
    }
    this.#stream.prependListener(event, listener);
    this.#listeners.push([event, listener]);
  }

  #on(event: string, listener: (error: Error) => void): void {
    this.#stream.on(event, listener);
    this.#listeners.push([event, listener]);
  }
}
