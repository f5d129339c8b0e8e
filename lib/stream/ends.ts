import type { Http2Stream } from 'node:http2';
import { Socket } from 'node:net';
import { type Duplex, PassThrough, type Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Endpoint, FileEndpoint, StreamEndpoint } from '../endpoint/endpoint.js';
import { type Failure, TransferError } from '../contract/errors.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import type { UsableEndpoint } from '../endpoint/usable.js';
import { hasHandle, isTcp } from '../node/internals.js';
import type { Side, Traffic } from '../contract/traffic.js';
import { type NativeEnd, openEnd } from '../core/core.js';
import { closeByReset } from '../node/close-by-reset.js';
import { BridgeReader, BridgeWriter } from './bridge.js';
import { FileReader, FileWriter, type HeldFile } from './files.js';
import type { Reader, Writer } from './flow.js';
import { StreamReader } from './reader.js';
import { StreamWriter } from './writer.js';

/** What a copy reads from; `range` has a meaning in files alone. */
export function readerOf(
  endpoint: UsableEndpoint,
  range: { start: number | undefined; length: number | undefined },
): Reader {
  if (endpoint.kind === 'stream' || endpoint.kind === 'socket') {
    return new StreamReader(endpoint.side, streamOf(endpoint) as Readable, 'lent');
  }
  if (endpoint.kind === 'file') return new FileReader(heldOf(endpoint), { position: range.start });
  const { end } = endpoint;
  if (end.kind !== 'file') return new BridgeReader(endpoint.side, end, range.length);
  const rewind = (bytes: number) => void end.rewind(bytes);
  return new FileReader(heldIn(end), { position: range.start, rewind });
}

/** What a copy writes to; `position` has a meaning in files alone. */
export function writerOf(
  endpoint: UsableEndpoint,
  position: number | undefined,
  endDestination: boolean,
): Writer {
  if (endpoint.kind === 'stream' || endpoint.kind === 'socket') {
    return new StreamWriter(endpoint.side, streamOf(endpoint) as WritableLike);
  }
  if (endpoint.kind === 'file') return new FileWriter(heldOf(endpoint), position);
  const { end } = endpoint;
  if (end.kind === 'file') return new FileWriter(heldIn(end), position);
  return new BridgeWriter(endpoint.side, end, endDestination);
}

/** A duplicate: it is closed when its owner is collected, and somebody else's file would then have its number. */
function heldIn(end: NativeEnd): HeldFile {
  return {
    get fd() {
      return end.fd;
    },
    dispose: () => end.release(),
  };
}

/** The caller's own. A FileHandle that is collected closes its descriptor too. */
function heldOf(endpoint: FileEndpoint): HeldFile {
  const { fd, owner } = endpoint;
  return { fd, owner, dispose: () => {} };
}

function streamOf(endpoint: StreamEndpoint | { kind: 'socket'; socket: Socket }): unknown {
  return endpoint.kind === 'socket' ? endpoint.socket : endpoint.stream;
}

/** Both ways of one end of a relay. */
export interface RelayEnds {
  readonly reader: Reader;
  readonly writer: Writer;
  /** Lets go of it, after a failure in the strongest way its transport has; resolves when nothing is held any more. */
  destroy(failure: Failure | undefined, traffic: Traffic): Promise<void>;
}

export function relayEndsOf(endpoint: Endpoint, refuse: () => void): RelayEnds {
  if (endpoint.kind === 'descriptor') return new NumberEnd(endpoint.side, endpoint.end);
  // Its relay fails before it starts; there is nothing to let go of.
  if (endpoint.kind === 'unavailable') return new DuplexEnd(endpoint.side, new PassThrough(), refuse);
  return new DuplexEnd(endpoint.side, streamOf(endpoint as StreamEndpoint) as Duplex, refuse);
}

/** A socket given as a number: it stays the caller's. */
class NumberEnd implements RelayEnds {
  readonly reader: Reader;
  readonly writer: Writer;

  constructor(side: Side, end: NativeEnd) {
    const again = openEnd(end.fd, side);
    if (again.end === undefined) throw new Error('no descriptor is left');
    this.reader = new BridgeReader(side, end, undefined);
    this.writer = new BridgeWriter(side, again.end, true);
  }

  async destroy(): Promise<void> {
    await this.writer.release();
    await this.reader.release(Buffer.alloc(0));
  }
}

/** A stream, which belongs to the relay. */
class DuplexEnd implements RelayEnds {
  readonly reader: StreamReader;
  readonly writer: StreamWriter;
  readonly #stream: Duplex;
  readonly #closeCleanly: () => void;
  /** Its 'close': a socket's `closed` is true some time before that. */
  readonly #closed: Promise<void>;

  constructor(side: Side, stream: Duplex, refuse: () => void) {
    this.#stream = stream;
    this.#closed = stream.destroyed
      ? Promise.resolve()
      : new Promise((resolve) => stream.once('close', resolve));
    this.#closeCleanly = closeByReset(stream);
    this.reader = new StreamReader(side, stream, 'handed over');
    this.writer = new StreamWriter(side, stream as WritableLike, refuse);
    if (stream instanceof Socket && isTcp(stream)) stream.setNoDelay(true);
  }

  async destroy(failure: Failure | undefined, traffic: Traffic): Promise<void> {
    const stream = this.#stream;
    await this.reader.release(Buffer.alloc(0));
    // Kept from throwing where nobody listens; nobody hears it.
    stream.on('error', () => {});
    if (failure === undefined) {
      this.#closeCleanly();
      stream.destroy();
    } else {
      breakOff(stream, new TransferError(failure.message, { ...failure, traffic }));
    }
    // A stream need not say that it has closed.
    const patience = new AbortController();
    const { signal } = patience;
    await Promise.race([this.#closed, sleep(1000, undefined, { ref: false, signal }).catch(() => {})]);
    patience.abort();
    await this.writer.release();
  }
}

/** TCP reset; TLS without close_notify and a reset below; HTTP/2 RST_STREAM; for the rest an error. */
function breakOff(stream: Duplex, error: TransferError): void {
  if (stream.destroyed) return;
  if (isHttp2Stream(stream)) {
    stream.close(0x8 /* CANCEL, RFC 9113 section 7 */);
    stream.destroy();
    return;
  }
  // Sockets close by a reset from when they were handed over, whoever destroys them.
  if (stream instanceof Socket && hasHandle(stream)) stream.destroy();
  else stream.destroy(error);
}

/** An HTTP/2 stream, whichever side made it: its class is not public. */
function isHttp2Stream(stream: Duplex): stream is Http2Stream {
  return 'session' in stream && 'rstCode' in stream;
}
