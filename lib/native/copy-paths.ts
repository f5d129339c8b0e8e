// Copies from one path to another. One trip to a thread of the core opens both files. If the file is small, the same trip
// copies it and closes both. A larger file is then copied like two open descriptors.
import { aborted, fileCallFailure, pathMistake } from '../contract/errors.js';
import type { CopySettings } from '../contract/options.js';
import { inCore } from '../contract/rate-limiter.js';
import { openPaths, type PathCall, type PathResult } from '../core/core-file.js';
import { type NativeEnd, type NativeOutcome, type NativeTransfer, startNative } from '../core/core.js';
import type { PathEndpoint } from '../endpoint/endpoint.js';
import { returnsSoon } from '../transfer/patience.js';
import { limitWait, type TimeLimit } from '../transfer/time-limit.js';
import type { EngineTransfer, Settled, Task } from '../transfer/transfer.js';
import { close } from './start.js';

/** Copies as `settings` say. Both files are closed at the end in every case. */
export function copyPaths(
  task: Task,
  [source, destination]: readonly [PathEndpoint, PathEndpoint],
  settings: CopySettings,
): void {
  task.obeySignal();
  if (task.isOver) return;
  task.run((settled) => new PathTransfer(task, source.path, destination.path, settings, settled));
}

function outcomeOf(tx: number, zeroCopy: number): NativeOutcome {
  return { tx, rx: 0, zeroCopy, aEnded: true, bEnded: false };
}

class PathTransfer implements EngineTransfer {
  readonly #task: Task;
  readonly #settings: CopySettings;
  readonly #settled: Settled;
  readonly #call: PathCall;
  readonly #idle: TimeLimit | undefined;
  #hasReturned = false;
  #isAborted = false;
  #copying: NativeTransfer | undefined;

  constructor(task: Task, source: string, destination: string, settings: CopySettings, settled: Settled) {
    this.#task = task;
    this.#settings = settings;
    this.#settled = settled;
    const { start, position, length, head, limit, moveOptions } = settings;
    this.#call = openPaths({
      source,
      destination,
      keepContents: position !== undefined,
      // The limiter is consulted before reading, and the head goes first.
      copyIfSmall: limit === undefined && head === undefined,
      zeroCopy: moveOptions.zeroCopy,
      ...(start === undefined ? {} : { start }),
      ...(position === undefined ? {} : { position }),
      ...(length === undefined ? {} : { length }),
    });
    this.#idle = limitWait(task.idleTimeout, (failure) => task.fail(failure));
    void this.#call.result.then((result) => task.attempt(() => this.#returned(result)));
  }

  traffic(): { tx: number; rx: number } {
    return this.#copying?.traffic() ?? { tx: 0, rx: 0 };
  }

  abort(): void {
    if (this.#copying !== undefined) this.#copying.abort();
    else if (this.#hasReturned) this.#settled(outcomeOf(0, 0), aborted());
    else if (!this.#isAborted) void this.#stop();
  }

  /** A call that has not returned after a moment is given up. */
  async #stop(): Promise<void> {
    this.#isAborted = true;
    this.#call.stop();
    if (await returnsSoon(this.#call.result)) return;
    this.#call.giveUp();
    this.#settled(outcomeOf(0, 0), aborted());
  }

  #returned(result: PathResult): void {
    this.#hasReturned = true;
    this.#idle?.stop();
    if (result.kind === 'copied') {
      this.#settled(outcomeOf(result.bytes, result.zeroCopy));
    } else if (this.#isAborted) {
      if (result.kind === 'opened') release(result.source, result.destination);
      this.#settled(outcomeOf(0, 0), aborted());
    } else if (result.kind === 'opened') {
      this.#copy(result.source, result.destination);
    } else {
      const { refusal } = result;
      const side = refusal.side === 'destination' ? 'destination' : 'source';
      if (refusal.errno === undefined) this.#task.refuse(pathMistake(side, refusal.found));
      else this.#settled(outcomeOf(0, 0), fileCallFailure(refusal, side));
    }
  }

  #copy(source: NativeEnd | null, destination: NativeEnd | null): void {
    const { start, position, length, head, limit, moveOptions } = this.#settings;
    const options = {
      endDestination: false,
      ...(start === undefined ? {} : { start }),
      ...(position === undefined ? {} : { position }),
      ...(length === undefined ? {} : { length }),
      ...(head === undefined ? {} : { head: Uint8Array.from(head) }),
    };
    if (source === null || destination === null) throw new Error('a file is not open');
    try {
      this.#copying = startNative(
        (core, id) => core.copy(id, source, destination, options, moveOptions, inCore(limit)),
        this.#settled,
      );
    } catch (error) {
      release(source, destination);
      throw error;
    }
  }
}

function release(...ends: (NativeEnd | null)[]): void {
  for (const end of ends) if (end !== null) close(end);
}
