// Keeps what is written to a response within its Content-Length: the bytes of a transfer on streams, and the calls that
// its owner made meanwhile. One byte more would be taken for the beginning of the next response.
import { Http2ServerResponse } from 'node:http2';
import { type Failure, lengthMismatch } from '../contract/errors.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { HeldCalls } from '../node/held-calls.js';
import type { Announced } from '../stream/flow.js';
import { hasNoBody, isWrapped, type Response, roomIn } from './framing.js';

/** The length of the body that a flow writes. */
export class AnnouncedBody implements Announced {
  readonly shortage: Failure | undefined;
  readonly #response: Response;
  readonly #isWrapped: boolean;
  #length: number | undefined;
  #isBodiless: boolean | undefined;

  /** `shortage` is the failure of a body that ends early. The methods of the response must not be laid over yet. */
  constructor(response: Response, shortage: Failure | undefined) {
    this.#response = response;
    this.shortage = shortage;
    this.#isWrapped = isWrapped(response);
  }

  length(): number {
    if (this.#length !== undefined) return this.#length;
    const length = this.#now();
    if (this.#response.headersSent) this.#length = length;
    return length;
  }

  #now(): number {
    const response = this.#response;
    const isStrict = !(response instanceof Http2ServerResponse) && response.strictContentLength;
    // Node checks each write itself, and throws before it sends a byte.
    return isStrict ? Infinity : roomIn(response);
  }

  /** Node has ended such a stream, and fails every write. Over HTTP/1.1 it discards them. */
  get isBodiless(): boolean {
    const response = this.#response;
    return (this.#isBodiless ??= response instanceof Http2ServerResponse && hasNoBody(response));
  }

  /** Fixes the headers before the first byte: a program may change them when they are written. */
  fix(): void {
    const response = this.#response;
    if (response.headersSent || this.#isWrapped || response instanceof Http2ServerResponse) return;
    try {
      response.writeHead(response.statusCode);
    } catch {
      // The first write throws the same error, and reports it.
    }
  }
}

/** Calls of `write` and `end` on a response. Those that exceed its Content-Length destroy it. */
export class ResponseCalls extends HeldCalls<WritableLike> {
  readonly #response: Response;
  /** Bytes that the calls may still write; known while they are replayed. */
  #room = Infinity;

  constructor(response: Response) {
    super(response as WritableLike);
    this.#response = response;
  }

  override replay(): void {
    if (this.isEmpty) return;
    this.#room = roomIn(this.#response);
    super.replay();
  }

  protected override repeat(name: 'write' | 'end', args: unknown[]): void {
    this.#room -= bytesIn(args);
    if (this.#room < 0) throw mismatch();
    super.repeat(name, args);
  }
}

/** The error that Node throws under `strictContentLength`. */
export function mismatch(): Error {
  const { message, code } = lengthMismatch();
  return Object.assign(new Error(message), { code });
}

function bytesIn([chunk, encoding]: unknown[]): number {
  if (typeof chunk !== 'string') return ArrayBuffer.isView(chunk) ? chunk.byteLength : 0;
  return Buffer.byteLength(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
}
