// Writes bytes of a transfer to a Node stream and counts those that the stream has accepted.
import { types } from 'node:util';
import { now } from '../contract/clock.js';
import {
  endedByOwner,
  type Failure,
  streamDestroyed,
  streamFailure,
  writeThrew,
} from '../contract/errors.js';
import { FAILURE_GRACE_MS } from '../contract/failure-grace.js';
import type { Side } from '../contract/traffic.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { isEnded } from '../endpoint/usable.js';
import { closesByReset } from '../node/close-by-reset.js';
import { HeldCalls, type RelayedCall } from '../node/held-calls.js';
import { markWritten, unmarkWritten } from '../node/held-writes.js';
import type { Writer } from './flow.js';
import { lossFailure, resetFailure } from './reset.js';

/** Writes to a Node stream. Calls of `write` and `end` by others are queued meanwhile, or refused. */
export class StreamWriter implements Writer {
  readonly #side: Side;
  readonly #stream: WritableLike;
  readonly #calls: HeldCalls<WritableLike>;
  /** Whether the calls that were queued follow at the release. */
  readonly #replays: boolean;
  readonly #write: WritableLike['write'];
  readonly #end: WritableLike['end'];
  readonly #listeners: [event: string, listener: (error: Error) => void][] = [];
  readonly #chunks: Buffer[] = [];
  /** A chunk for which `write` threw. */
  #refused: Buffer = Buffer.alloc(0);
  #pending = 0;
  #acceptedAt = -Infinity;
  #full = false;
  #accepted: (bytes: number) => void = () => {};
  #fail: (failure: Failure) => void = () => {};
  #flushed: (() => void) | undefined;
  #finished: (() => void) | undefined;
  /** Whether `end()` was called on the stream, by this writer, its owner or its class. */
  #isEnding = false;
  /** Whether it closed without being destroyed after `end()`. Some classes emit 'close' before or without 'finish'. */
  #isClosed = false;

  /**
   * `called` gets the calls of others. Without it, they are queued: until the release, or in `calls`, whose owner replays
   * them.
   */
  constructor(
    side: Side,
    stream: WritableLike,
    called?: (call: RelayedCall) => void,
    calls?: HeldCalls<WritableLike>,
  ) {
    this.#side = side;
    this.#stream = stream;
    markWritten(stream);
    // A wrapper that compresses may have replaced these methods. The bytes are then written to the wrapper.
    this.#write = stream.write.bind(stream);
    this.#end = stream.end.bind(stream);
    this.#calls = calls ?? new HeldCalls(stream);
    this.#replays = calls === undefined;
    // Properties that are set on a Proxy end up on its target, where they would catch the Proxy's own writes.
    if (types.isProxy(stream)) return;
    if (called === undefined) {
      this.#calls.queue({ ignoresCork: true });
      return;
    }
    this.#calls.report((call) => {
      if (call === 'end') this.#isEnding = true;
      called(call);
    });
  }

  /** Refuses calls of the owner of a relay's stream from here on. */
  refuseCalls(): void {
    if (types.isProxy(this.#stream)) return;
    this.#calls.refuse();
    this.#calls.refuseDestroySoon();
  }

  get isFull(): boolean {
    return this.#full;
  }

  get isEnded(): boolean {
    return isEnded(this.#stream);
  }

  get pending(): number {
    return this.#pending;
  }

  /** Node does not report how many of the accepted bytes the peer has taken. */
  get queuedUntil(): number {
    return closesByReset(this.#stream) ? this.#acceptedAt + FAILURE_GRACE_MS : 0;
  }

  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void {
    const stream = this.#stream;
    this.#accepted = accepted;
    this.#fail = fail;
    while ((stream.writableCorked ?? 0) > 0 && stream.uncork !== undefined) stream.uncork();
    this.#full = stream.writableNeedDrain === true;
    this.#on('error', (error) => fail(streamFailure(this.#side, error)));
    this.#on('close', () => {
      if (stream.writableFinished === true) return;
      const reset = resetFailure(this.#side, stream) ?? lossFailure(this.#side, stream);
      if (reset !== undefined || stream.destroyed === true || !this.#isEnding || this.#pending > 0) {
        fail(reset ?? streamDestroyed(this.#side, stream));
        return;
      }
      this.#isClosed = true;
      this.#finished?.();
    });
    this.#on('drain', () => {
      this.#full = false;
      wake();
    });
  }

  write(chunk: Buffer): void {
    if (this.#isClosed) {
      this.#refused = chunk;
      this.#full = true;
      this.#fail(endedByOwner(this.#side));
      return;
    }
    this.#chunks.push(chunk);
    this.#pending += chunk.length;
    try {
      this.#full = !this.#write(chunk, (error) => this.#written(error));
    } catch (error) {
      this.#chunks.pop();
      this.#pending -= chunk.length;
      this.#refused = chunk;
      this.#thrown(error);
    }
  }

  /** Some streams throw: a response that has no body, or one whose Content-Length is another. */
  #thrown(error: unknown): void {
    this.#full = true;
    this.#fail(writeThrew(this.#side, error));
  }

  #written(error: Error | null | undefined): void {
    const stream = this.#stream;
    if (error != null) {
      const { code } = error as NodeJS.ErrnoException;
      this.#fail(
        code === 'ERR_STREAM_DESTROYED'
          ? streamDestroyed(this.#side, stream)
          : streamFailure(this.#side, error),
      );
      return;
    }
    // Callbacks are called in the order of the writes.
    const chunk = this.#chunks.shift();
    if (chunk === undefined) return;
    this.#pending -= chunk.length;
    this.#acceptedAt = now();
    this.#accepted(chunk.length);
    if (this.#pending === 0) this.#flushed?.();
  }

  finish(end: boolean, done: () => void): void {
    const stream = this.#stream;
    const flushed = () => {
      this.#flushed = undefined;
      // HTTP/2 reports every response to HEAD as finished, even before its headers were sent.
      const isFinished = stream.writableFinished === true && stream.writableEnded !== false;
      if (!end || isFinished || this.#isClosed) {
        done();
        return;
      }
      this.#finished = done;
      this.#isEnding = true;
      try {
        this.#on('finish', done);
        if (stream.writableEnded !== true) this.#end();
      } catch (error) {
        this.#thrown(error);
      }
    };
    if (this.#pending === 0) flushed();
    else this.#flushed = flushed;
  }

  /**
   * Bytes in the queue of a stream that lives on cannot be taken out of it, so they count as accepted. Bytes that a
   * destroyed stream had not confirmed are returned.
   */
  release(): Promise<Buffer> {
    const stream = this.#stream;
    const isLost = stream.destroyed === true || stream.errored != null;
    const rest = Buffer.concat(isLost ? [...this.#chunks, this.#refused] : [this.#refused]);
    if (!isLost && this.#pending > 0) this.#accepted(this.#pending);
    this.#chunks.length = 0;
    this.#pending = 0;
    unmarkWritten(stream);
    if (this.#replays) this.#calls.restore();
    for (const [event, listener] of this.#listeners) stream.off(event, listener);
    if (this.#replays) this.#calls.replay();
    return Promise.resolve(rest);
  }

  #on(event: string, listener: (error: Error) => void): void {
    this.#stream.on(event, listener);
    this.#listeners.push([event, listener]);
  }
}
