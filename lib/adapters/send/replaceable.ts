// Which streams the adapters for files replace: streams of large files, made by Node and read by nothing but a pipe into a
// response whose body the core can send. All others stay as they are.
import fs, { ReadStream } from 'node:fs';
import { ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { capabilities } from '../../../index.js';

export type FileStream = ReadStream & { fd: number; start?: number; end: number };

/** A stream sends this many bytes at less cost: docs/decisions/adapters-for-files.md. */
export const SMALL = 128 * 1024;

const proto: Pick<ServerResponse, 'write' | 'end'> = ServerResponse.prototype;

export function isReplaceable(source: FileStream, response: ServerResponse): boolean {
  return isPlain(response) && isLarge(source, response) && isUnread(source) && capabilities().native;
}

/** Whether the response has a length, and more bytes than a stream sends at less cost. */
function isLarge({ start = 0, end }: FileStream, response: ServerResponse): boolean {
  const length = response.getHeader('content-length');
  // Headers that were passed to writeHead() may have a length that getHeader() does not return.
  if (length === undefined && !response.headersSent) return false;
  return Math.min(end - start + 1, Number(length ?? Infinity)) > SMALL;
}

/** Whether bytes reach the client as they are written: no HTTPS, HTTP/2, compression or simulated request. */
function isPlain(response: ServerResponse): boolean {
  if (!(response instanceof ServerResponse)) return false;
  if (response.write !== proto.write || response.end !== proto.end) return false;
  const { socket } = response.req as { socket?: { encrypted?: boolean } };
  return socket instanceof Socket && !('encrypted' in socket);
}

/** Whether the stream reads with Node's own functions, and only for the pipe. */
function isUnread(source: FileStream): boolean {
  if (Object.getPrototypeOf(source) !== ReadStream.prototype) return false;
  // A symbol holds the file system of the stream: Node's `fs`, another one, or a FileHandle.
  if (!Object.getOwnPropertySymbols(source).some((key) => Reflect.get(source, key) === fs)) return false;
  if (source.bytesRead + source.readableLength > 0 || source.readableEncoding !== null) return false;
  return source.listenerCount('data') === 1 && source.listenerCount('readable') === 0;
}
