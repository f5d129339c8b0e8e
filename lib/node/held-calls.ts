import { Shadow } from './overlay.js';

type Call = (...args: unknown[]) => unknown;

/** What is written to and ended, whatever it is. */
interface Written {
  write(...args: never[]): unknown;
  end(...args: never[]): unknown;
  destroy?(error: Error): unknown;
}

/**
 * Makes calls that were held. What one of them throws can reach its caller no more: the stream is destroyed with it, as
 * Node does with an error that comes late.
 */
export function replay(calls: (() => unknown)[], stream: Pick<Written, 'destroy'>): void {
  for (const call of calls.splice(0)) {
    try {
      call();
    } catch (error) {
      stream.destroy?.(error as Error);
    }
  }
}

/** Calls of `write` and `end` that wait until a transfer is done with what they are for. */
export class HeldCalls {
  readonly #target: Written;
  readonly #shadow: Shadow;
  readonly #calls: (() => unknown)[] = [];

  constructor(target: Written) {
    this.#target = target;
    this.#shadow = new Shadow(target);
  }

  lay(): void {
    for (const name of ['write', 'end'] as const) {
      this.#shadow.lay(name, (...args: unknown[]) => {
        this.#calls.push(() => (this.#target[name] as Call)(...args));
        return name === 'write' ? false : this.#target;
      });
    }
  }

  /** Lets calls through again; those that are held go on waiting. */
  lift(): void {
    this.#shadow.retire();
  }

  /** Makes the calls that were held, in order, to whatever stands there now. */
  replay(): void {
    replay(this.#calls, this.#target);
  }
}
