import { OutgoingMessage, ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Failure } from './errors.js';
import { binding, type NativeEnd } from './native.js';
import { isPlainSocket } from './plain-socket.js';
import { type Preparable, PreparedEnd } from './prepared-end.js';
import { Shadow } from './shadow.js';
import { destroyed } from './stream/failures.js';

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

/** Whether a body of this response has a length that its headers tell, and is sent as it is. */
export function isPlain(response: Response): response is ServerResponse {
  if (binding === undefined || !(response instanceof ServerResponse)) return false;
  const { prototype } = OutgoingMessage as unknown as { prototype: ServerResponse };
  // Replaced by a wrapper that compresses or counts: then the wrapper is what has to be written to.
  if (response.write !== prototype.write || response.end !== prototype.end) return false;
  if (headerOf(response, 'transfer-encoding') !== undefined) return false;
  if (headerOf(response, 'content-length') === undefined) return false;
  return isPlainSocket(response.socket ?? response.req.socket);
}

/** A plain response whose turn it is and whose headers are out: its body can go straight into the socket. */
export class ResponseEnd implements Preparable {
  readonly #response: ServerResponse;
  readonly #shadow: Shadow;
  readonly #held: (() => unknown)[] = [];
  #inner: PreparedEnd | undefined;
  #isQueueing = false;
  #stopWaiting = () => {};
  readonly isNumber = false;

  constructor(response: ServerResponse) {
    this.#response = response;
    this.#shadow = new Shadow(response);
  }

  get isReady(): boolean {
    return this.#inner?.isReady ?? false;
  }

  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void {
    const response = this.#response;
    while (response.writableCorked > 0) response.uncork();
    response.flushHeaders();
    this.queue();
    const begin = (): void => {
      const { socket } = response;
      if (socket === null) return;
      this.#stopWaiting();
      this.#inner = new PreparedEnd({ kind: 'socket', side: 'destination', socket });
      // From its turn on: before, the connection serves others.
      this.#inner.prepare(ready, fail, idleTimeout);
    };
    // A pipelined response has no socket before its turn.
    const assigned = () => process.nextTick(begin);
    const closed = () => fail(destroyed('destination', response));
    response.once('socket', assigned).once('close', closed);
    this.#stopWaiting = () => void response.off('socket', assigned).off('close', closed);
    begin();
  }

  /** Keeps what others write waiting until it is given back. */
  queue(): void {
    if (this.#isQueueing) return;
    this.#isQueueing = true;
    const response = this.#response;
    for (const name of ['write', 'end'] as const) {
      const call = response[name].bind(response) as (...args: unknown[]) => unknown;
      this.#shadow.lay(name, (...args: unknown[]) => {
        this.#held.push(() => call(...args));
        return name === 'write' ? false : response;
      });
    }
  }

  open(): NativeEnd | Failure {
    return this.#inner?.open() ?? destroyed('destination', this.#response);
  }

  /** From here on nothing but the body goes into the socket, and it counts as the socket's. */
  hold(written: () => number): void {
    // Node does not see the body, and would miss it.
    this.#response.strictContentLength = false;
    this.#inner?.hold(written);
  }

  /** Gives the response back; what was written to it meanwhile follows. */
  giveBack(): void {
    this.#stopWaiting();
    this.#inner?.giveBack();
    this.#shadow.lift();
    for (const call of this.#held.splice(0)) call();
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
