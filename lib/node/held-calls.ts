// Holds calls of `write` and `end` on a stream while a transfer writes to it. They are either queued until the transfer
// is done, or refused.
import type { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import { nextTick } from '../contract/clock.js';
import { DESTROY, destroyByClass } from './internals.js';
import { PropertyOverlay } from './overlay.js';

type Call = (...args: unknown[]) => unknown;

/** The part of a writable stream that is laid over. */
export interface CallTarget {
  write(...args: never[]): unknown;
  end(...args: never[]): unknown;
  destroy?(error: Error): unknown;
  readonly writableCorked?: number;
}

/** A call on a relayed stream: one that carries data, an `end()` without data, or the first `destroy()`. */
export type RelayedCall = 'write' | 'end' | 'destroy';

/** A call that was made while a transfer wrote to the stream. */
interface HeldCall {
  name: 'write' | 'end';
  args: unknown[];
}

/** The key of the function to which the functions below report. */
export const CALLED = Symbol('fdsplice: called');

type Refusing = object & { [CALLED]?: (call: RelayedCall) => void };

// These functions are shared by all streams in relays. Closures for each stream would be a good part of the
// memory that an idle relay takes.
export function refuseWrite(this: Refusing, ...args: unknown[]): boolean {
  refuse(this, args);
  return false;
}

export function refuseEnd(this: Refusing, ...args: unknown[]): unknown {
  const [data] = args;
  if (data == null || typeof data === 'function' || (data as { length?: number }).length === 0) {
    const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
    if (callback !== undefined) callAtEnd(this as EventEmitter, callback);
    this[CALLED]?.('end');
  } else {
    refuse(this, args);
  }
  return this;
}

/** The order of the 'close' events of two streams is not the order in which they were destroyed. */
export function reportDestroy(this: Refusing, ...args: unknown[]): void {
  this[CALLED]?.('destroy');
  destroyByClass(this, reportDestroy, args);
}

/** Node's own method would destroy the socket once it has ended, although its input may go on. */
function refuseDestroySoon(this: Refusing): void {
  refuseEnd.call(this);
}

/** Calls `callback` when the stream has ended. A socket that the core ends emits only 'close'. */
function callAtEnd(stream: EventEmitter, callback: () => void): void {
  const ended = () => {
    stream.off('finish', ended).off('close', ended);
    callback();
  };
  stream.on('finish', ended).on('close', ended);
}

/** A cork would keep back for good what Node still has to write before the transfer. */
export function ignoreCork(): void {}

function refuse(stream: Refusing, args: unknown[]): void {
  stream[CALLED]?.('write');
  const noun = stream instanceof Socket ? 'socket' : 'stream';
  const error = Object.assign(new Error(`the ${noun} belongs to a relay`), { code: 'ERR_INVALID_STATE' });
  const callback = args.find((arg) => typeof arg === 'function') as ((error: Error) => void) | undefined;
  if (callback !== undefined) nextTick(callback, error);
}

/** Calls of `write` and `end` on one stream. */
export class HeldCalls<Target extends CallTarget = CallTarget> {
  protected readonly target: Target;
  protected readonly overlay: PropertyOverlay;
  #queued: HeldCall[] | undefined;

  constructor(target: Target) {
    this.target = target;
    this.overlay = new PropertyOverlay(target);
  }

  /** Queues calls until {@link replay}. With `ignoresCork`, calls of `cork` have no effect meanwhile. */
  queue({ ignoresCork }: { ignoresCork: boolean }): void {
    const { target } = this;
    const queued = (this.#queued ??= []);
    for (const name of ['write', 'end'] as const) {
      this.overlay.set(name, (...args: unknown[]) => {
        queued.push({ name, args });
        return name === 'write' ? false : target;
      });
    }
    if (ignoresCork) this.#ignoreCork();
  }

  /** Reports the first `destroy()` to `called`, and the calls that {@link refuse} refuses. */
  report(called: (call: RelayedCall) => void): void {
    const { target } = this;
    (target as Refusing)[CALLED] = called;
    const own: unknown = Object.hasOwn(target, DESTROY) ? Reflect.get(target, DESTROY) : undefined;
    if (typeof own !== 'function') {
      this.overlay.set(DESTROY, reportDestroy);
      return;
    }
    this.overlay.set(DESTROY, function (this: object, ...args: unknown[]): void {
      called('destroy');
      Reflect.apply(own, this, args);
    });
  }

  /** Reports calls instead of making them. Data is refused: its bytes would get in between those of the transfer. */
  refuse(): void {
    this.overlay.set('write', refuseWrite);
    this.overlay.set('end', refuseEnd);
    this.#ignoreCork();
  }

  /**
   * Reports a call of `destroySoon` as one of `end`. A socket that the core writes to needs no such method: it never
   * emits 'finish', which Node's own waits for.
   */
  refuseDestroySoon(): void {
    if ('destroySoon' in this.target) this.overlay.set('destroySoon', refuseDestroySoon);
  }

  #ignoreCork(): void {
    if (this.target.writableCorked !== undefined) this.overlay.set('cork', ignoreCork);
  }

  /** Lets later calls through; queued calls stay queued. */
  restore(): void {
    for (const name of ['write', 'end', DESTROY, 'cork', 'destroySoon']) this.overlay.restore(name);
  }

  /** Does what {@link restore} does, for a stream that will not be used for long. */
  detach(): void {
    this.overlay.detach();
  }

  /**
   * Makes the queued calls, in order, to the methods that the stream has now. An error that one of them throws cannot
   * reach its caller any more, so the stream is destroyed with it, as Node does with an error that comes late.
   */
  replay(): void {
    for (const { name, args } of this.#queued?.splice(0) ?? []) {
      try {
        this.repeat(name, args);
      } catch (error) {
        this.target.destroy?.(error as Error);
      }
    }
  }

  /** Whether no call waits for {@link replay}. */
  protected get isEmpty(): boolean {
    return (this.#queued?.length ?? 0) === 0;
  }

  protected repeat(name: HeldCall['name'], args: unknown[]): void {
    (this.target[name] as Call)(...args);
  }
}
