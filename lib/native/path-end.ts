// A file that the core opens by its path, as one end of a copy whose other end is a socket or a descriptor. The core
// closes it with the copy.
import { fileCallFailure, notOpen, type Failure, pathMistake } from '../contract/errors.js';
import { openPaths, type PathCall } from '../core/core-file.js';
import type { NativeEnd } from '../core/core.js';
import type { PathEndpoint } from '../endpoint/endpoint.js';
import { returnsSoon } from '../transfer/patience.js';
import { limitWait, type TimeLimit } from '../transfer/time-limit.js';
import type { CopyDestination, CopySource } from './copy.js';

/** How a destination is opened. */
interface Opening {
  /** Whether it is not truncated. */
  keepContents: boolean;
  /** The source, if that is a file that is open already. */
  source: NativeEnd | undefined;
}

export class PathEnd implements CopySource, CopyDestination {
  readonly isNumber = false;
  readonly isFramed = false;
  readonly takesBack = false;
  readonly reads = undefined;
  readonly #endpoint: PathEndpoint;
  readonly #opening: Opening | undefined;
  readonly #refuse: (mistake: Error) => void;
  #call: PathCall | undefined;
  #end: NativeEnd | null = null;
  #idle: TimeLimit | undefined;
  #isClosed = false;

  constructor(endpoint: PathEndpoint, refuse: (mistake: Error) => void, opening?: Opening) {
    this.#endpoint = endpoint;
    this.#refuse = refuse;
    this.#opening = opening;
  }

  /** A destination is created and truncated when the source is ready. */
  get isLast(): boolean {
    return this.#endpoint.side === 'destination';
  }

  get isReady(): boolean {
    return this.#end !== null;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    const { side, path } = this.#endpoint;
    const { keepContents = false, source } = this.#opening ?? {};
    this.#idle = limitWait(idleTimeout, fail);
    const paths = { [side]: path, keepContents, copyIfSmall: false, zeroCopy: true };
    this.#call = openPaths(paths, source);
    void this.#call.result.then((result) => {
      this.#idle?.stop();
      if (result.kind === 'opened') {
        this.#end = result[side as 'source' | 'destination'];
        if (this.#isClosed) this.#end?.release();
        else ready();
      } else if (result.kind === 'refused' && !this.#isClosed) {
        const { refusal } = result;
        if (refusal.errno === undefined) this.#refuse(pathMistake(side, refusal.found));
        else fail(fileCallFailure(refusal, side));
      }
    });
  }

  open(): NativeEnd | Failure {
    return this.#end ?? { ...notOpen('the file is not open'), side: this.#endpoint.side };
  }

  /** An opening that hangs is given up after a moment. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#idle?.stop();
    this.#end?.release();
    if (this.#call === undefined || this.#end !== null) return;
    this.#call.stop();
    if (!(await returnsSoon(this.#call.result))) this.#call.giveUp();
  }

  // A file has no owner in JavaScript whose calls would have to be held, and it is closed, not ended.
  takeOver(): void {}
  queue(): void {}
  hold(): void {}
  account(): void {}
  breakOff(): void {}
  giveBack(): void {}
  end(): void {}
}
