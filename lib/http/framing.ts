// What the headers of a response say about its body: whether there is one, and its length. Programs change requests and
// responses while they are served, so everything that Node has fixed is read from where Node keeps it.
import { type IncomingMessage, OutgoingMessage, type ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import { invalidValue } from '../contract/errors.js';
import {
  answersHead,
  areHeadersOut,
  countedBody,
  dispatchedBytes,
  sendsBody,
  sentHeaders,
} from '../node/internals.js';
import { writtenByOwner } from './owner-bytes.js';

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

/** Whether a wrapper, as for compression, has replaced the methods that write the body. */
export function isWrapped(response: Response): boolean {
  const methods = response instanceof Http2ServerResponse ? Http2ServerResponse : OutgoingMessage;
  const { prototype } = methods as unknown as { prototype: ServerResponse };
  return response.write !== prototype.write || response.end !== prototype.end;
}

type Header = 'content-length' | 'transfer-encoding';

const LINES: Record<Header, RegExp> = {
  'content-length': /^content-length:[ \t]*(.*?)[ \t]*$/gim,
  'transfer-encoding': /^transfer-encoding:[ \t]*(.*?)[ \t]*$/gim,
};

/** A header of a response: as it was sent, or as it will be sent. Several values are joined by commas. */
export function headerOf(response: Response, name: Header): string | undefined {
  if (!response.headersSent) return textOf(response.getHeader(name));
  if (response instanceof Http2ServerResponse) return textOf(response.stream.sentHeaders?.[name]);
  const lines = LINES[name];
  const headers = sentHeaders(response);
  lines.lastIndex = 0;
  let text: string | undefined;
  for (let line = lines.exec(headers); line !== null; line = lines.exec(headers)) {
    text = text === undefined ? line[1] : `${text},${line[1]}`;
  }
  return text;
}

function textOf(value: number | string | readonly string[] | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}

/**
 * The length that the headers announce for the body; `undefined` if they announce none, if the body is chunked, or if
 * there is no body; `NaN` if the Content-Length is not a length.
 */
export function announcedLength(response: Response): number | undefined {
  if (hasNoBody(response) || isChunked(response)) return undefined;
  const text = headerOf(response, 'content-length');
  if (text === undefined) return undefined;
  const [first = '', ...others] = text.split(',').map((value) => value.trim());
  const isLength = /^\d+$/.test(first) && others.every((value) => value === first);
  return isLength && Number.isSafeInteger(Number(first)) ? Number(first) : NaN;
}

function isChunked(response: Response): boolean {
  return /\bchunked\b/i.test(headerOf(response, 'transfer-encoding') ?? '');
}

/** Rejects a response whose Content-Length is not a length: no client could find the end of its body. */
export function requireLength(response: Response): void {
  if (!Number.isNaN(announcedLength(response))) return;
  const text = headerOf(response, 'content-length');
  throw invalidValue('destination', `has a Content-Length of ${text}, which is not a length`);
}

/** How much of a body has been written. */
interface Count {
  body: number;
  /** The socket's count of bytes when this was recorded. Between transfers the owner alone writes, and only the body. */
  socket: number | undefined;
  /** Whether `body` includes what the owner wrote before the first transfer. */
  isComplete: boolean;
}

const counts = new WeakMap<Response, Count>();

function socketCount(response: Response): number | undefined {
  return response instanceof Http2ServerResponse ? undefined : response.socket?.bytesWritten;
}

/** Node's own count, which it keeps under `strictContentLength` alone. */
function ownCount(response: Response): number | undefined {
  return response instanceof Http2ServerResponse ? undefined : countedBody(response);
}

/** Begins to count the body of a response, before the first transfer sends its headers. */
export function beginCount(response: Response): void {
  if (response instanceof Http2ServerResponse) {
    const { stream } = response;
    const body = dispatchedBytes(stream);
    const isComplete = body !== undefined && stream.writableLength === 0;
    counts.set(response, { body: body ?? 0, socket: undefined, isComplete });
  } else if (!counts.has(response)) {
    const isBegun = response.headersSent && areHeadersOut(response);
    const body = isBegun ? writtenByOwner(response) : 0;
    const socket = isBegun ? socketCount(response) : undefined;
    counts.set(response, { body: body ?? 0, socket, isComplete: body !== undefined });
  }
}

/** Counts the bytes that a transfer has written, when it ends. */
export function countBody(response: Response, bytes: number): void {
  const { body = 0, socket, isComplete = false } = counts.get(response) ?? {};
  counts.set(response, {
    body: socket === undefined ? body + bytes : writtenBody(response),
    socket: socketCount(response),
    isComplete,
  });
}

/** Bytes of the body that are known to have been written. */
function writtenBody(response: Response): number {
  const counted = ownCount(response);
  if (counted !== undefined) return counted;
  const { body = 0, socket } = counts.get(response) ?? {};
  const now = socketCount(response);
  return now === undefined || socket === undefined ? body : body + now - socket;
}

/** Whether it is known how much of the body was written. */
export function isCounted(response: Response): boolean {
  return ownCount(response) !== undefined || counts.get(response)?.isComplete === true;
}

/** The bytes of the body that the headers still allow; `Infinity` without an announced length. */
export function roomIn(response: Response): number {
  const announced = announcedLength(response);
  if (announced === undefined) return Infinity;
  return Number.isNaN(announced) ? 0 : Math.max(0, announced - writtenBody(response));
}
