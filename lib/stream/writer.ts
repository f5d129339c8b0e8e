import { performance } from 'node:perf_hooks';
import { types } from 'node:util';
import { type Failure, streamDestroyed, streamFailure, writeThrew } from '../contract/errors.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { replay } from '../node/held-calls.js';
import { holdWrites, letWritesGo } from '../node/held-writes.js';
import { Shadow } from '../node/overlay.js';
import type { Side } from '../contract/traffic.js';
import { closesByReset } from '../node/close-by-reset.js';
import { FAILURE_GRACE_MS } from '../contract/failure-grace.js';
import type { Writer } from './flow.js';

type Call = (...args: unknown[]) => unknown;

/** Writes to a Node stream; what others write meanwhile is held, or refused. */
export class StreamWriter implements Writer {
  readonly #side: Side;
  readonly #stream: WritableLike;
  readonly #shadow: Shadow;
  readonly #write: WritableLike['write'];
  readonly #end: WritableLike['end'];
  readonly #held: (() => unknown)[] = [];
  readonly #listeners: [event: string, listener: (error: Error) => void][] = [];
  readonly #chunks: Buffer[] = [];
  /** What the stream would not take at all. */
  #refused: Buffer = Buffer.alloc(0);
  #pending = 0;
  #acceptedAt = -Infinity;
  #full = false;
  #accepted: (bytes: number) => void = () => {};
  #fail: (failure: Failure) => void = () => {};
  #flushed: (() => void) | undefined;

  /** `refuse` is called when somebody else writes; without it, their writes wait for the release. */
  constructor(side: Side, stream: WritableLike, refuse?: () => void) {
    this.#side = side;
    this.#stream = stream;
    holdWrites(stream);
    // Perhaps replaced by a wrapper that compresses: then it is the wrapper that is written to.
    this.#write = stream.write.bind(stream);
    this.#end = stream.end.bind(stream);
    this.#shadow = new Shadow(stream);
    // It would lie over what the Proxy stands for, in the way of the Proxy's own writes.
    if (types.isProxy(stream)) return;
    for (const name of ['write', 'end'] as const) {
      const call = (name === 'write' ? this.#write : this.#end) as Call;
      this.#shadow.lay(name, (...args: unknown[]) => {
        if (refuse === undefined) this.#held.push(() => call(...args));
        else refuseCall(refuse, args);
        return name === 'write' ? false : stream;
      });
    }
    // What is written here would never go out.
    if (stream.writableCorked !== undefined) this.#shadow.lay('cork', () => {});
  }

  get isFull(): boolean {
    return this.#full;
  }

  get isEnded(): boolean {
    return this.#stream.writableEnded === true;
  }

  get pending(): number {
    return this.#pending;
  }

  /** Nothing in Node tells how much of it the peer has taken. */
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
      if (stream.writableFinished !== true) fail(streamDestroyed(this.#side, stream));
    });
    this.#on('drain', () => {
      this.#full = false;
      wake();
    });
  }

  write(chunk: Buffer): void {
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

  /** Some streams throw, as a response does that is to have no body, or a length that this is not. */
  #thrown(error: unknown): void {
    this.#full = true;
    this.#fail(writeThrew(this.#side, error as Error));
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
    // Callbacks come in the order of the writes.
    const chunk = this.#chunks.shift();
    if (chunk === undefined) return;
    this.#pending -= chunk.length;
    this.#acceptedAt = performance.now();
    this.#accepted(chunk.length);
    if (this.#pending === 0) this.#flushed?.();
  }

  finish(end: boolean, done: () => void): void {
    const stream = this.#stream;
    const flushed = () => {
      this.#flushed = undefined;
      if (!end || stream.writableFinished === true) {
        done();
        return;
      }
      this.#on('finish', done);
      if (stream.writableEnded === true) return;
      try {
        this.#end();
      } catch (error) {
        this.#thrown(error);
      }
    };
    if (this.#pending === 0) flushed();
    else this.#flushed = flushed;
  }

  /**
   * What a stream that goes on was handed cannot be taken out of its queue: it counts as accepted. What one that is
   * destroyed had not confirmed is given back.
   */
  release(): Promise<Buffer> {
    const stream = this.#stream;
    const isLost = stream.destroyed === true || stream.errored != null;
    const rest = Buffer.concat(isLost ? [...this.#chunks, this.#refused] : [this.#refused]);
    if (!isLost && this.#pending > 0) this.#accepted(this.#pending);
    this.#chunks.length = 0;
    this.#pending = 0;
    letWritesGo(stream);
    for (const [event, listener] of this.#listeners) stream.off(event, listener);
    this.#shadow.lift();
    replay(this.#held, stream);
    return Promise.resolve(rest);
  }

  #on(event: string, listener: (error: Error) => void): void {
    this.#stream.on(event, listener);
    this.#listeners.push([event, listener]);
  }
}

function refuseCall(refuse: () => void, args: unknown[]): void {
  refuse();
  const error = Object.assign(new Error('the stream belongs to a relay'), { code: 'ERR_INVALID_STATE' });
  const callback = args.find((arg) => typeof arg === 'function') as ((error: Error) => void) | undefined;
  if (callback !== undefined) process.nextTick(callback, error);
}
