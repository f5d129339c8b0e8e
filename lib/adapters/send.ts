/**
 * `fdsplice/send`: files that a package pipes into a response are sent with `sendFile`.
 * @module fdsplice/send
 */
import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import { hold } from './send/hold.js';
import { type SendStream, streamFile } from './send/stream-method.js';

export type { SendStream };

/**
 * Sends the body of `response` with `sendFile` if it is a large file that is piped into it later. Call it before the
 * package that serves files. All other responses stay as they are.
 *
 * The stream of the package stays in its pipe. It opens the file, and it ends or fails with the error of the transfer.
 */
export function sendStream(response: ServerResponse | Http2ServerResponse): void;
/** The same as a middleware: `app.use(sendStream)`. */
export function sendStream(
  request: unknown,
  response: ServerResponse | Http2ServerResponse,
  next: () => void,
): void;
/** The same in the place of the method `stream` of the package `send`: `Object.assign(send(…), { stream: sendStream })`. */
export function sendStream(this: SendStream, path: string, options?: object): void;
export function sendStream(this: unknown, ...args: unknown[]): void {
  const own = typeof args[0] === 'string' ? (this as SendStream) : undefined;
  (own?.res ?? ((args[1] ?? args[0]) as ServerResponse)).on('pipe', hold);
  if (own === undefined) (args[2] as (() => void) | undefined)?.();
  else streamFile(own, ...(args as [string, object]));
}
