// Responses of Node's HTTP servers: which of them have a body that the core can send, and how one is handed over.
import { ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import { nextTick } from '../contract/clock.js';
import { type Failure, streamDestroyed, wrongKind } from '../contract/errors.js';
import type { Openable } from '../endpoint/preparable.js';
import type { HeldCalls } from '../node/held-calls.js';
import { closeByReset } from '../node/close-by-reset.js';
import { markWritten, unmarkWritten } from '../node/held-writes.js';
import { creditBody } from '../node/internals.js';
import type { PreopenedFile } from '../core/core-file.js';
import { binding, type NativeEnd } from '../core/core.js';
import { isPlainSocket } from '../node/plain-socket.js';
import { SocketEnd } from '../native/socket-end.js';
import { attempt } from '../transfer/attempt.js';
import { limitWait } from '../transfer/time-limit.js';
import { mismatch, ResponseCalls } from './announced-body.js';
import { connectionOf, isClosed, watchConnection } from './connection.js';
import { countBody, hasNoBody, headerOf, isCounted, isWrapped, type Response, roomIn } from './framing.js';

export function isResponse(value: unknown): value is Response {
  return value instanceof ServerResponse || value instanceof Http2ServerResponse;
}

/** Whether the core can send the body of this response: it has a Content-Length and goes out unchanged. */
function isPlain(response: Response): response is ServerResponse {
  if (binding() === undefined || !(response instanceof ServerResponse)) return false;
  if (hasNoBody(response) || response.writableEnded) return false;
  // The bytes have to be written to the wrapper.
  if (isWrapped(response)) return false;
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
  /** Whether the calls that were held follow when the response is given back. */
  readonly #replays: boolean;
  #inner: SocketEnd | undefined;
  #written = () => 0;
  #isQueueing = false;
  #isWaiting = false;
  #stopWaiting = () => {};
  readonly isNumber = false;
  readonly isFramed = true;

  /** Without `calls`, calls of others are held here until {@link giveBack}. */
  constructor(response: ServerResponse, calls?: HeldCalls) {
    this.#response = response;
    this.#held = calls ?? new ResponseCalls(response);
    this.#replays = calls === undefined;
    markWritten(response);
  }

  get isReady(): boolean {
    return this.#inner?.isReady ?? false;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    this.queue();
    const begin = (): void => {
      const { socket } = this.#response;
      if (socket === null) return;
      this.#stopWaiting();
      if (!isPlainSocket(socket, 'destination')) {
        fail(wrongKind('destination', 'another connection than that of the request'));
        return;
      }
      this.#inner = new SocketEnd({ kind: 'socket', side: 'destination', socket });
      this.#inner.takeOver();
      this.#inner.prepare(ready, fail, idleTimeout);
    };
    if (this.#response.socket === null) this.#awaitTurn(begin, fail, idleTimeout);
    else begin();
  }

  /** Waits for the socket of a pipelined response, which is assigned when its turn comes. */
  #awaitTurn(begin: () => void, fail: (failure: Failure) => void, idleTimeout: number | undefined): void {
    const response = this.#response;
    const assigned = () =>
      nextTick(() => {
        if (this.#isWaiting) attempt(fail, begin, 'destination');
      });
    const closed = () => fail(streamDestroyed('destination', response));
    response.once('socket', assigned).once('close', closed);
    const forgetConnection = watchConnection(response, closed);
    const limit = limitWait(idleTimeout, fail);
    this.#isWaiting = true;
    this.#stopWaiting = () => {
      this.#isWaiting = false;
      limit?.stop();
      forgetConnection();
      response.off('socket', assigned).off('close', closed);
    };
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
  hold(written: () => number, idleMs: () => number): void {
    this.#written = written;
    this.#inner?.hold(written, idleMs);
  }

  breakOff(): void {
    if (this.#response.headersSent) breakOffResponse(this.#response);
  }

  /** Gives the response back. Writes that were queued meanwhile follow. */
  giveBack(): void {
    this.#stopWaiting();
    try {
      this.#inner?.giveBack();
    } finally {
      unmarkWritten(this.#response);
      const written = this.#written();
      creditBody(this.#response, written);
      countBody(this.#response, written);
      if (this.#replays) {
        this.#held.detach();
        this.#held.replay();
      }
    }
  }

  /** Ends the response; resolves when it has finished. A body that is too short breaks it off. */
  end(): Promise<Failure | undefined> {
    const response = this.#response;
    const room = isCounted(response) ? roomIn(response) : 0;
    if (room === 0 || room === Infinity) return endResponse(response);
    breakOffResponse(response);
    throw mismatch();
  }
}

/**
 * Ends a response whose body was sent. Resolves when it has finished or was closed, with a failure if the system has not
 * taken the rest within `idleTimeout` ms.
 */
export async function endResponse(response: Response, idleTimeout?: number): Promise<Failure | undefined> {
  // HTTP/2 reports every response to HEAD as finished, so `writableFinished` alone does not decide.
  if ((response.writableEnded && response.writableFinished) || isClosed(response)) return undefined;
  let stop = () => {};
  try {
    return await new Promise((resolve) => {
      const over = () => resolve(undefined);
      response.once('finish', over).once('close', over);
      const forgetConnection = watchConnection(response, over);
      const limit = limitWait(idleTimeout, resolve);
      stop = () => {
        limit?.stop();
        forgetConnection();
        response.off('finish', over).off('close', over);
      };
      if (!response.writableEnded) response.end();
    });
  } finally {
    stop();
  }
}

/** Closes the connection of a response so that its client sees that the body is incomplete. */
export function breakOffResponse(response: Response): void {
  if (response instanceof Http2ServerResponse) {
    response.stream.close(0x2 /* INTERNAL_ERROR, RFC 9113 section 7 */);
    return;
  }
  // Without a length or chunks, the end of the connection is the end of the body.
  const isFramed = headerOf(response, 'content-length') ?? headerOf(response, 'transfer-encoding');
  if (isFramed === undefined && response.socket !== null) closeByReset(response.socket);
  response.destroy();
}

/** Breaks off a response that its owner ends before the announced length: its client would wait for the rest. */
export function breakOffIfShort(response: Response): void {
  if (response instanceof ServerResponse && !response.listeners('prefinish').includes(checkLength)) {
    response.once('prefinish', checkLength);
  }
}

function checkLength(this: ServerResponse): void {
  const room = isCounted(this) ? roomIn(this) : 0;
  if (room > 0 && room < Infinity) breakOffResponse(this);
}
