// The two endpoints of `fdsplice copy`: opens them, and closes or resets them at the end.
import { Acceptor } from './acceptor.js';
import { type EndpointSpec, formatEndpoint } from './endpoint-spec.js';
import { breakOff, end, LINGER_MS } from './deliver.js';
import { openDestination, type OpenEndpoint, type OpenOptions, openSource } from './open.js';
import { reset } from './sockets.js';
import { codeOf, describeError } from './text.js';

export interface EndpointSettings {
  source: EndpointSpec;
  destination: EndpointSpec;
  /** Milliseconds. */
  connectTimeout: number;
}

type Side = 'source' | 'destination';

/** An endpoint that could not be opened. */
export class OpenError extends Error {
  readonly side: Side;
  readonly code: string;

  constructor(side: Side, name: string, cause: unknown) {
    super(`cannot open the ${side} ${name}: ${describeError(cause)}`, { cause });
    this.side = side;
    this.code = codeOf(cause) ?? 'ERR_INVALID_ARG_VALUE';
  }
}

/** The endpoints of one copy, from their names until both are closed. */
export class Endpoints {
  readonly #settings: EndpointSettings;
  readonly #signal: AbortSignal;
  readonly #acceptors: { source?: Acceptor; destination?: Acceptor } = {};
  #source: OpenEndpoint | undefined;
  #destination: OpenEndpoint | undefined;

  constructor(settings: EndpointSettings, signal: AbortSignal) {
    this.#settings = settings;
    this.#signal = signal;
  }

  /** Opens both. `listening` is called with the address of an endpoint that listens. */
  async open(
    listening: (address: string) => void,
  ): Promise<{ source: OpenEndpoint; destination: OpenEndpoint }> {
    // Both listen before either is waited for, so that peers can connect in any order.
    for (const side of ['source', 'destination'] as const) {
      const spec = this.#settings[side];
      if (spec.kind === 'listen') {
        const acceptor = new Acceptor(this.#signal);
        this.#acceptors[side] = acceptor;
        listening(await this.#at(side, () => acceptor.listen(spec.address)));
      }
    }
    const source = await this.#at('source', (spec, options) => openSource(spec, options));
    this.#source = source;
    // After the source, so that a destination file is not truncated if the source cannot be opened.
    const destination = await this.#at('destination', (spec, options) =>
      openDestination(spec, source, options),
    );
    this.#destination = destination;
    return { source, destination };
  }

  /** Calls `open` with the endpoint of a side; its errors then name the endpoint. */
  async #at<T>(side: Side, open: (spec: EndpointSpec, options: OpenOptions) => Promise<T>): Promise<T> {
    const { [side]: spec, connectTimeout } = this.#settings;
    try {
      return await open(spec, { acceptor: this.#acceptors[side], connectTimeout, signal: this.#signal });
    } catch (error) {
      throw new OpenError(side, formatEndpoint(spec, side), error);
    }
  }

  /** Closes both after a complete copy. Rejects if the destination fails at its end. */
  async close(): Promise<void> {
    const [source, destination] = [this.#source, this.#destination];
    if (destination?.kind === 'file') {
      await destination.handle.close();
    } else if (destination?.kind === 'socket') {
      await end(destination.handle);
    }
    if (source?.kind === 'file') {
      await source.handle.close();
    } else if (source?.kind === 'socket') {
      source.handle.destroy();
    }
  }

  /**
   * Resets both, so that no peer takes the copy for complete, after waiting up to `timeout` ms for the destination to
   * acknowledge what was sent. Resolves with the number of bytes that were not acknowledged.
   */
  async breakOff(timeout = LINGER_MS): Promise<number> {
    const [source, destination] = [this.#source, this.#destination];
    this.#acceptors.source?.close();
    this.#acceptors.destination?.close();
    if (source?.kind === 'socket') {
      reset(source.handle, source.address);
    }
    return destination?.kind === 'socket' ? breakOff(destination.handle, destination.address, timeout) : 0;
  }
}
