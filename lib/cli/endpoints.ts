import { Acceptor } from './acceptor.js';
import { type CopyEnd, formatCopyEnd } from './endpoint-spec.js';
import { breakOff, end, LINGER_MS } from './deliver.js';
import { openDestination, type OpenEnd, openSource } from './open.js';
import { reset } from './sockets.js';
import { codeOf, describeError } from './text.js';

export interface EndsSettings {
  source: CopyEnd;
  destination: CopyEnd;
  /** Milliseconds. */
  connectTimeout: number;
}

export type Side = 'source' | 'destination';

/** An end that could not be opened. */
export class OpenError extends Error {
  readonly side: Side;
  readonly code: string;

  constructor(side: Side, name: string, cause: unknown) {
    super(`cannot open the ${side} ${name}: ${describeError(cause)}`, { cause });
    this.side = side;
    this.code = codeOf(cause) ?? 'ERR_INVALID_ARG_VALUE';
  }
}

/** The two ends of a copy, from the names on the command line until nothing of them is open. */
export class CopyEnds {
  readonly #settings: EndsSettings;
  readonly #signal: AbortSignal;
  readonly #acceptors: { source?: Acceptor; destination?: Acceptor } = {};
  #source: OpenEnd | undefined;
  #destination: OpenEnd | undefined;

  constructor(settings: EndsSettings, signal: AbortSignal) {
    this.#settings = settings;
    this.#signal = signal;
  }

  async open(listening: (address: string) => void): Promise<{ source: OpenEnd; destination: OpenEnd }> {
    // Both before anything is waited for, so that others can connect in any order.
    for (const side of ['source', 'destination'] as const) {
      const end = this.#settings[side];
      if (end.kind === 'listen') {
        const acceptor = new Acceptor(this.#signal);
        this.#acceptors[side] = acceptor;
        listening(await this.#at(side, () => acceptor.listen(end.address)));
      }
    }
    const source = await this.#at('source', (end, options) => openSource(end, options));
    this.#source = source;
    // After the source: without one, a file is not emptied.
    const destination = await this.#at('destination', (end, options) =>
      openDestination(end, source, options),
    );
    this.#destination = destination;
    return { source, destination };
  }

  async #at<T>(
    side: Side,
    open: (end: CopyEnd, options: Parameters<typeof openSource>[1]) => Promise<T>,
  ): Promise<T> {
    const { [side]: end, connectTimeout } = this.#settings;
    try {
      return await open(end, { acceptor: this.#acceptors[side], connectTimeout, signal: this.#signal });
    } catch (error) {
      throw new OpenError(side, formatCopyEnd(end, side), error);
    }
  }

  /** Ends both after a copy that is complete; fails if the destination does. */
  async close(): Promise<void> {
    const [source, destination] = [this.#source, this.#destination];
    if (destination?.kind === 'file') {
      await destination.what.close();
    } else if (destination?.kind === 'socket') {
      await end(destination.what);
    }
    if (source?.kind === 'file') {
      await source.what.close();
    } else if (source?.kind === 'socket') {
      source.what.destroy();
    }
  }

  /**
   * Lets go of both so that nobody takes the copy for complete, after what the destination still gets within `patience`
   * ms. Gives the number of bytes that it does not.
   */
  async breakOff(patience = LINGER_MS): Promise<number> {
    const [source, destination] = [this.#source, this.#destination];
    this.#acceptors.source?.close();
    this.#acceptors.destination?.close();
    if (source?.kind === 'socket') {
      reset(source.what, source.address);
    }
    return destination?.kind === 'socket' ? breakOff(destination.what, destination.address, patience) : 0;
  }
}
