// Chooses the reader and the writer for each kind of end, and destroys the ends of a relay of streams.
import type { Http2Stream } from 'node:http2';
import { Socket } from 'node:net';
import { type Duplex, PassThrough, type Readable } from 'node:stream';
import { clearTimeout, setTimeout } from '../contract/clock.js';
import type {
  ConnectionEndpoint,
  Endpoint,
  FileEndpoint,
  PathEndpoint,
  SocketEndpoint,
  StreamEndpoint,
} from '../endpoint/endpoint.js';
import { type Failure, refusalFailure, streamFailure, TransferError } from '../contract/errors.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import type { UsableEndpoint } from '../endpoint/usable.js';
import { hasHandle, isTcp } from '../node/internals.js';
import type { Side, Traffic } from '../contract/traffic.js';
import { type NativeEnd, openEnd } from '../core/core.js';
import { closeByReset } from '../node/close-by-reset.js';
import type { HeldCalls, RelayedCall } from '../node/held-calls.js';
import { BridgeReader, BridgeWriter } from './bridge.js';
import { FileReader, FileWriter, type HeldFile } from './files.js';
import { type FindFile, identityOf, PathReader, PathWriter, type Refuse } from './paths.js';
import { whenOpen } from './when-open.js';
import type { Reader, Writer } from './flow.js';
import { StreamReader } from './reader.js';
import { resetFailure } from './reset.js';
import { StreamWriter } from './writer.js';

/** The reader of a copy's source. `range` applies to files alone. */
export function readerOf(
  endpoint: UsableEndpoint,
  range: { start: number | undefined; length: number | undefined },
  destination: UsableEndpoint,
  refuse: Refuse,
): Reader {
  if (endpoint.kind === 'path') return new PathReader(endpoint, range.start, refuse, fileOf(destination));
  if (hasStream(endpoint)) {
    return new StreamReader(endpoint.side, streamOf(endpoint) as Readable, 'lent');
  }
  if (endpoint.kind === 'file') return new FileReader(heldOf(endpoint), { position: range.start });
  const { end } = endpoint;
  if (end.kind !== 'file') return new BridgeReader(endpoint.side, end, range.length);
  const rewind = (bytes: number) => void end.rewind(bytes);
  return new FileReader(heldIn(end), { position: range.start, rewind });
}

/** The writer of a copy's destination that is a path. `source` and `reader` are the other end. */
export function pathWriterOf(
  endpoint: PathEndpoint,
  position: number | undefined,
  source: UsableEndpoint,
  reader: Reader,
  refuse: Refuse,
): Writer {
  const options =
    reader instanceof PathReader
      ? {
          after: (open: () => void) => {
            void reader.opened.then(open);
            return () => {};
          },
          source: () => Promise.resolve(reader.identity),
        }
      : {
          after: hasStream(source)
            ? (open: () => void) => whenOpen(streamOf(source) as Readable, open)
            : undefined,
          source: fileOf(source),
        };
  return new PathWriter(endpoint, refuse, { position, ...options });
}

/** How to find the file that an end has open, if it is one. */
function fileOf(end: UsableEndpoint): FindFile | undefined {
  if (end.kind === 'file') return () => identityOf(end.fd);
  if (end.kind === 'descriptor') return end.end.kind === 'file' ? () => identityOf(end.end.fd) : undefined;
  if (end.kind !== 'stream') return undefined;
  // A stream of a file, or process.stdin or process.stdout.
  const { stream } = end;
  return async () => ('fd' in stream && typeof stream.fd === 'number' ? identityOf(stream.fd) : undefined);
}

/** The writer of a copy's destination. `position` applies to files alone. */
export function writerOf(
  endpoint: Exclude<UsableEndpoint, PathEndpoint>,
  position: number | undefined,
  endDestination: boolean,
  calls?: HeldCalls<WritableLike>,
): Writer {
  if (hasStream(endpoint)) {
    return new StreamWriter(endpoint.side, streamOf(endpoint) as WritableLike, undefined, calls);
  }
  if (endpoint.kind === 'file') return new FileWriter(heldOf(endpoint), position);
  const { end } = endpoint;
  if (end.kind === 'file') return new FileWriter(heldIn(end), position);
  return new BridgeWriter(endpoint.side, end, endDestination);
}

/** A duplicate. Its owner stays referenced: a collected one closes it, and another file could get its number. */
function heldIn(end: NativeEnd): HeldFile {
  return {
    get fd() {
      return end.fd;
    },
    dispose: () => end.release(),
  };
}

/** The caller's own descriptor. Its owner stays referenced: a collected FileHandle closes its descriptor too. */
function heldOf(endpoint: FileEndpoint): HeldFile {
  const { fd, owner } = endpoint;
  return { fd, owner, dispose: () => {} };
}

type WithStream = StreamEndpoint | SocketEndpoint | ConnectionEndpoint;

function hasStream(endpoint: Endpoint): endpoint is WithStream {
  return endpoint.kind === 'stream' || endpoint.kind === 'socket' || endpoint.kind === 'connection';
}

function streamOf(endpoint: WithStream): unknown {
  if (endpoint.kind === 'connection') return endpoint.connection.socket();
  return endpoint.kind === 'socket' ? endpoint.socket : endpoint.stream;
}

const NOTHING = Buffer.alloc(0);

/** Both directions of one end of a relay. */
export interface RelayEnds {
  readonly side: Side;
  readonly reader: Reader;
  readonly writer: Writer;
  /** The failure of a relay whose end was destroyed; `undefined` if the end had done its part of both directions. */
  readonly loss: Failure | undefined;
  /** Takes the end over. It must be destroyed from here on, also if this throws. */
  takeOver(): void;
  /** Reports calls of its owner from here on instead of making them. */
  refuseCalls(): void;
  /** Destroys the end, after a failure in the strongest way of its transport; resolves when nothing is held any more. */
  destroy(failure: Failure | undefined, traffic: Traffic): Promise<void>;
}

/** What a relay does on behalf of the owner of a stream. */
export interface Owner {
  /** Gets the calls that the owner makes on the stream. */
  called: (call: RelayedCall) => void;
  emitsErrors: boolean | undefined;
}

export function relayEndsOf(endpoint: Endpoint, owner: Owner): RelayEnds {
  if (endpoint.kind === 'descriptor') return new NumberEnd(endpoint.side, endpoint.end);
  // The relay fails before it starts, so there is nothing to destroy.
  if (endpoint.kind === 'unavailable') return new DuplexEnd(endpoint.side, new PassThrough(), owner);
  return new DuplexEnd(endpoint.side, streamOf(endpoint as WithStream) as Duplex, owner);
}

/** A socket given as a number: it stays the caller's. */
class NumberEnd implements RelayEnds {
  readonly side: Side;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly loss = undefined;

  constructor(side: Side, end: NativeEnd) {
    this.side = side;
    const again = openEnd(end.fd, side);
    this.reader = new BridgeReader(side, end, undefined);
    this.writer = new BridgeWriter(side, again.end ?? refusalFailure(again.refusal, side), true);
  }

  takeOver(): void {}

  refuseCalls(): void {}

  async destroy(): Promise<void> {
    try {
      await this.writer.release();
    } finally {
      await this.reader.release(NOTHING);
    }
  }
}

/** Milliseconds to wait for the 'close' of a destroyed stream. */
const CLOSE_WAIT_MS = 1000;

/** A stream, which belongs to the relay. */
class DuplexEnd implements RelayEnds {
  readonly side: Side;
  readonly reader: StreamReader;
  readonly writer: StreamWriter;
  readonly #stream: Duplex;
  #closeCleanly = () => {};
  /** Resolves at 'close'. The `closed` of a socket is true some time before that. */
  #closed: Promise<void> | undefined;

  constructor(side: Side, stream: Duplex, { called, emitsErrors }: Owner) {
    this.side = side;
    this.#stream = stream;
    this.reader = new StreamReader(side, stream, 'handed over', emitsErrors);
    this.writer = new StreamWriter(side, stream as WritableLike, called);
  }

  get loss(): Failure | undefined {
    const stream = this.#stream;
    const isInputComplete = this.reader.isAtEnd || stream.readableEnded;
    if (isInputComplete && stream.writableFinished) return undefined;
    return resetFailure(this.side, stream) ?? streamFailure(this.side, stream.errored);
  }

  takeOver(): void {
    const stream = this.#stream;
    this.#closeCleanly = closeByReset(stream);
    if (!stream.destroyed) {
      let resolve = () => {};
      this.#closed = new Promise((settle) => (resolve = settle));
      stream.once('close', () => resolve());
    }
    if (stream instanceof Socket && isTcp(stream)) stream.setNoDelay(true);
  }

  refuseCalls(): void {
    this.writer.refuseCalls();
  }

  async destroy(failure: Failure | undefined, traffic: Traffic): Promise<void> {
    const stream = this.#stream;
    try {
      await this.reader.release(NOTHING);
      // Without a listener, Node would throw a late 'error'.
      stream.on('error', () => {});
    } finally {
      try {
        await this.#close(failure, traffic);
      } finally {
        this.reader.restore();
        await this.writer.release();
      }
    }
  }

  async #close(failure: Failure | undefined, traffic: Traffic): Promise<void> {
    const stream = this.#stream;
    if (failure === undefined) {
      this.#closeCleanly();
      stream.destroy();
    } else {
      breakOff(stream, new TransferError(failure.message, { ...failure, traffic }));
    }
    // Not every stream emits 'close'.
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, CLOSE_WAIT_MS).unref();
      void Promise.resolve(this.#closed).then(() => {
        clearTimeout(timer);
        resolve();
      });
    });
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
  // A socket has closed by reset, whatever destroys it, since it was handed over.
  if (stream instanceof Socket && hasHandle(stream)) stream.destroy();
  else stream.destroy(error);
}

/** Whether this is an HTTP/2 stream of either side. The class is not public. */
function isHttp2Stream(stream: Duplex): stream is Http2Stream {
  return 'session' in stream && 'rstCode' in stream;
}
