import { OutgoingMessage, ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import { type Failure, streamDestroyed } from '../contract/errors.js';
import { HeldCalls } from '../node/held-calls.js';
import { holdWrites, letWritesGo } from '../node/held-writes.js';
import type { PreopenedFile } from '../core/core-file.js';
import { binding, type NativeEnd } from '../core/core.js';
import { isPlainSocket } from '../node/plain-socket.js';
import { type Openable, SocketEnd } from '../native/socket-end.js';

/** What answers an HTTP request, of either version. */
export type Response = ServerResponse | Http2ServerResponse;

export function isResponse(value: unknown): value is Response {
  return value instanceof ServerResponse || value instanceof Http2ServerResponse;
}

/** What headers that were sent say of the framing; Node keeps no other record of what `writeHead` was given. */
interface Sent {
  _header?: string | null;
}

/** A header of a response, sent or not. */
export function headerOf(response: Response, name: string): string | undefined {
  const value = response.getHeader(name);
  if (value !== undefined) return String(value);
  const { _header: sent } = response as Sent;
  return new RegExp(`^${name}:\\s*(.*?)\\s*$`, 'im').exec(sent ?? '')?.[1];
}

/** Whether what is written as the body of this response goes nowhere. */
export function hasNoBody({ req, statusCode }: Response): boolean {
  return req.method === 'HEAD' || statusCode === 204 || statusCode === 304;
}

/** Whether the body of this response has a length that its headers tell, and is sent as it is. */
function isPlain(response: Response): response is ServerResponse {
  if (binding === undefined || !(response instanceof ServerResponse)) return false;
  if (hasNoBody(response) || response.writableEnded) return false;
  const { prototype } = OutgoingMessage as unknown as { prototype: ServerResponse };
  // Replaced by a wrapper that compresses or counts: then the wrapper is what has to be written to.
  if (response.write !== prototype.write || response.end !== prototype.end) return false;
  if (headerOf(response, 'transfer-encoding') !== undefined) return false;
  if (headerOf(response, 'content-length') === undefined) return false;
  return isPlainSocket(response.socket ?? response.req.socket, 'destination');
}

/**
 * Whether the core can write the body of a response into its socket. Sends the headers first, unless `isAborted`, because
 * a listener for the headers (compression, for example) may change how the body is framed.
 */
export function takesNativeBody(response: Response, isAborted = false): response is ServerResponse {
  return isPlain(response) && (isAborted || sendHeaders(response));
}

/** Sends the headers and checks again whether the response is plain. */
function sendHeaders(response: ServerResponse): boolean {
  while (response.writableCorked > 0) response.uncork();
  response.flushHeaders();
  return isPlain(response);
}

/** Node counts the body for `strictContentLength`, and would miss what the core has written. */
function credit(response: ServerResponse, bytes: number): void {
  const symbols = Object.getOwnPropertySymbols(response);
  const key = symbols.find(({ description }) => description === 'kBytesWritten');
  const counted: unknown = key === undefined ? undefined : Reflect.get(response, key);
  if (key !== undefined && typeof counted === 'number') Reflect.set(response, key, counted + bytes);
  else response.strictContentLength = false;
}

/** A plain response, whose headers were sent: when its turn comes, its body can go straight into the socket. */
export class ResponseEnd implements Openable {
  readonly #response: ServerResponse;
  readonly #held: HeldCalls;
  #inner: SocketEnd | undefined;
  #written = () => 0;
  #isQueueing = false;
  #stopWaiting = () => {};
  readonly isNumber = false;

  constructor(response: ServerResponse) {
    this.#response = response;
    this.#held = new HeldCalls(response);
    holdWrites(response);
  }

  get isReady(): boolean {
    return this.#inner?.isReady ?? false;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    const response = this.#response;
    this.queue();
    const begin = (): void => {
      const { socket } = response;
      if (socket === null) return;
      this.#stopWaiting();
      this.#inner = new SocketEnd({ kind: 'socket', side: 'destination', socket });
      // From its turn on: before, the connection serves others.
      this.#inner.prepare(ready, fail, idleTimeout);
    };
    // A pipelined response has no socket before its turn.
    const assigned = () => process.nextTick(begin);
    const closed = () => fail(streamDestroyed('destination', response));
    response.once('socket', assigned).once('close', closed);
    this.#stopWaiting = () => void response.off('socket', assigned).off('close', closed);
    begin();
  }

  /** Keeps what others write waiting until it is given back. */
  queue(): void {
    if (this.#isQueueing) return;
    this.#isQueueing = true;
    this.#held.lay();
  }

  open(): NativeEnd | Failure {
    return this.#inner?.open() ?? streamDestroyed('destination', this.#response);
  }

  /** Sends all that was read of a file as the body, if the socket takes it without waiting. */
  sendNow(file: PreopenedFile, bytes: number): boolean {
    if (this.#inner?.sendNow(file, bytes) !== true) return false;
    this.#written = () => bytes;
    return true;
  }

  /** From here on nothing but the body goes into the socket, and it counts as the socket's. */
  hold(written: () => number): void {
    this.#written = written;
    this.#inner?.hold(written);
  }

  /** Gives the response back; what was written to it meanwhile follows. */
  giveBack(): void {
    this.#stopWaiting();
    this.#inner?.giveBack();
    letWritesGo(this.#response);
    credit(this.#response, this.#written());
    this.#held.lift();
    this.#held.replay();
  }

  /** Ends the response; resolves when it has finished. */
  end(): Promise<void> {
    return endResponse(this.#response);
  }
}

/** Ends a response whose body is out; resolves when it has finished. */
export async function endResponse(response: Response): Promise<void> {
  // HTTP/2 says of every response to HEAD that it has finished.
  if ((response.writableEnded && response.writableFinished) || response.destroyed) return;
  const over = new Promise<void>((resolve) => {
    response.once('finish', () => resolve()).once('close', () => resolve());
  });
  if (!response.writableEnded) response.end();
  await over;
}

/** Shows the client that the body is not complete. */
export function breakOffResponse(response: Response): void {
  if (response instanceof Http2ServerResponse)
    response.stream.close(0x2 /* INTERNAL_ERROR, RFC 9113 section 7 */);
  else response.destroy();
}
