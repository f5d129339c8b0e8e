// Responses of Node's HTTP servers: which of them have a body that the core can send, and how one is handed over.
import { type IncomingMessage, OutgoingMessage, ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { nextTick } from '../contract/clock.js';
import { type Failure, streamDestroyed } from '../contract/errors.js';
import type { Openable } from '../endpoint/preparable.js';
import { HeldCalls } from '../node/held-calls.js';
import { markWritten, unmarkWritten } from '../node/held-writes.js';
import { creditBody } from '../node/internals.js';
import type { PreopenedFile } from '../core/core-file.js';
import { binding, type NativeEnd } from '../core/core.js';
import { isPlainSocket } from '../node/plain-socket.js';
import { SocketEnd } from '../native/socket-end.js';
import { attempt } from '../transfer/attempt.js';
import { hasNoBody, headerOf, type Response } from './framing.js';

export function isResponse(value: unknown): value is Response {
  return value instanceof ServerResponse || value instanceof Http2ServerResponse;
}

/** The connection of a response. A pipelined response has none before its turn, but its request has it. */
function connectionOf({ socket, req }: ServerResponse): Socket | undefined {
  return socket ?? (req as IncomingMessage | undefined)?.socket;
}

/** Whether the core can send the body of this response: it has a Content-Length and goes out unchanged. */
function isPlain(response: Response): response is ServerResponse {
  if (binding() === undefined || !(response instanceof ServerResponse)) return false;
  if (hasNoBody(response) || response.writableEnded) return false;
  const { prototype } = OutgoingMessage as unknown as { prototype: ServerResponse };
  // A wrapper that compresses or counts has replaced these methods. The bytes have to be written to the wrapper.
  if (response.write !== prototype.write || response.end !== prototype.end) return false;
  if (headerOf(response, 'transfer-encoding') !== undefined) return false;
  if (headerOf(response, 'content-length') === undefined) return false;
  return isPlainSocket(connectionOf(response), 'destination');
}

/**
 * Whether the core can write the body of a response into its socket. Sends the headers first, unless `isAborted`:
 * middleware that acts when the headers are sent, such as compression, may change the framing of the body.
 */
export function takesNativeBody(response: Response, isAborted = false): response is ServerResponse {
  return isPlain(response) && (isAborted || sendHeaders(response));
}

/** Sends the headers and returns whether the response is still plain. */
function sendHeaders(response: ServerResponse): boolean {
  while (response.writableCorked > 0) response.uncork();
  response.flushHeaders();
  return isPlain(response);
}

/** A plain response whose headers were sent. When its turn comes, its body can go straight into the socket. */
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
    markWritten(response);
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
      this.#inner.takeOver();
      // The time limit starts here. Before its turn, the connection serves other responses.
      this.#inner.prepare(ready, fail, idleTimeout);
    };
    // A pipelined response has no socket before its turn.
    const assigned = () => nextTick(() => attempt(fail, begin, 'destination'));
    const closed = () => fail(streamDestroyed('destination', response));
    response.once('socket', assigned).once('close', closed);
    this.#stopWaiting = () => void response.off('socket', assigned).off('close', closed);
    begin();
  }

  /** The socket is taken over when the turn of the response comes. */
  takeOver(): void {}

  /** Queues writes by others until {@link giveBack}. */
  queue(): void {
    if (this.#isQueueing) return;
    this.#isQueueing = true;
    this.#held.queue({ ignoresCork: false });
  }

  open(): NativeEnd | Failure {
    return this.#inner?.open() ?? streamDestroyed('destination', this.#response);
  }

  /** Sends the bytes that were read of a file as the body, if the socket takes all of them without waiting. */
  sendNow(file: PreopenedFile, bytes: number): boolean {
    if (this.#inner?.sendNow(file, bytes) !== true) return false;
    this.#written = () => bytes;
    return true;
  }

  /** From here on only the body goes into the socket, and `written` counts for the socket. */
  hold(written: () => number): void {
    this.#written = written;
    this.#inner?.hold(written);
  }

  /** Gives the response back. Writes that were queued meanwhile follow. */
  giveBack(): void {
    this.#stopWaiting();
    try {
      this.#inner?.giveBack();
    } finally {
      unmarkWritten(this.#response);
      creditBody(this.#response, this.#written());
      this.#held.detach();
      this.#held.replay();
    }
  }

  /** Ends the response; resolves when it has finished. */
  end(): Promise<void> {
    return endResponse(this.#response);
  }
}

/** Ends a response whose body was sent; resolves when it has finished. */
export async function endResponse(response: Response): Promise<void> {
  // HTTP/2 reports every response to HEAD as finished, so `writableFinished` alone does not decide.
  if ((response.writableEnded && response.writableFinished) || response.destroyed) return;
  const over = new Promise<void>((resolve) => {
    response.once('finish', () => resolve()).once('close', () => resolve());
  });
  if (!response.writableEnded) response.end();
  await over;
}

/** Closes the connection of a response so that its client sees that the body is incomplete. */
export function breakOffResponse(response: Response): void {
  if (response instanceof Http2ServerResponse)
    response.stream.close(0x2 /* INTERNAL_ERROR, RFC 9113 section 7 */);
  else response.destroy();
}
