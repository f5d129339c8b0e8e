// What the headers of a response say about its body: whether there is one, and its length. Programs change requests and
// responses while they are served, so everything that Node has fixed is read from where Node keeps it.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import { answersHead, sendsBody, sentHeaders } from '../node/internals.js';

/** The response to a request of HTTP/1.1 or HTTP/2. */
export type Response = ServerResponse | Http2ServerResponse;

/** Statuses without a body: Node discards what is written. HTTP/2 also ends the stream behind the headers of a 205. */
const BODILESS = new Set([204, 304]);
const BODILESS_HTTP2 = new Set([...BODILESS, 205]);

/** Whether Node discards everything that is written as the body of this response. */
export function hasNoBody(response: Response): boolean {
  const { headersSent, statusCode } = response;
  if (response instanceof Http2ServerResponse) {
    const { stream } = response;
    return answersHead(stream) || (headersSent ? stream.writableEnded : BODILESS_HTTP2.has(statusCode));
  }
  const sends = sendsBody(response) ?? (response.req as IncomingMessage | undefined)?.method !== 'HEAD';
  return !sends || (!headersSent && BODILESS.has(statusCode));
}

/** A header of a response: as it was sent, or as it will be sent. */
export function headerOf(response: Response, name: string): string | undefined {
  if (!response.headersSent) return textOf(response.getHeader(name));
  if (response instanceof Http2ServerResponse) return textOf(response.stream.sentHeaders?.[name]);
  const lines = sentHeaders(response).matchAll(new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'gim'));
  return textOf([...lines].map(([, value = '']) => value));
}

function textOf(value: number | string | readonly string[] | undefined): string | undefined {
  if (typeof value !== 'object') return value === undefined ? undefined : String(value);
  return value.length === 0 ? undefined : value.join(', ');
}
