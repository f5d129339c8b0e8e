// sendFile(): a file, or a part of one, to a socket, an HTTP response or another destination.
import type { FileHandle } from 'node:fs/promises';
import { urlOf } from '../contract/realms.js';
import { invalidType, invalidValue } from '../contract/errors.js';
import { type SendFileSettings, sendFileSettings } from '../contract/options.js';
import type { Destination, SendFileOptions, Transfer } from '../contract/types.js';
import type { Wanted } from '../core/core-file.js';
import { lendConnections } from '../endpoint/connection.js';
import { canBeEnded, discard, type Endpoint, endpoint } from '../endpoint/endpoint.js';
import { CallerFile, type FileEndpoints, PathFile } from '../file/file-source.js';
import { sendToDescriptor, sendToStream } from '../file/send.js';
import { hasNoBody, type Response } from '../http/framing.js';
import { isResponse } from '../http/response.js';
import { sendToResponse } from '../http/send-response.js';
import { isWrittenByTransfer } from '../node/held-writes.js';
import { isFileHandle } from '../node/internals.js';
import { refused, Task } from '../transfer/transfer.js';
import { nativeSendTarget } from './engine.js';

/**
 * Sends a file, or its bytes from `start` to `end` inclusive, to `destination`.
 *
 * Range: it is fixed by the size of the file at the start. Later growth is ignored; truncation fails with
 * `ERR_SOURCE_TRUNCATED`. A file whose size is not known, as in procfs, sysfs and FUSE with direct I/O, is read until its
 * end or `end`.
 *
 * Ownership: a path or `file:` URL must name a regular file; it is opened for this call and closed at the end in every
 * case. A number or `FileHandle` stays the caller's, and so does the destination, which is ended only with
 * `endDestination`.
 *
 * HTTP: unsent headers go first, with the Content-Length of the range unless they already define the framing, and the
 * response is ended by default. A Content-Length that was set before bounds the body: more bytes are not sent, fewer fail
 * with `ERR_SOURCE_TRUNCATED`, and one that contradicts `start` and `end` is a caller's mistake. A response to HEAD, or
 * one with status 204 or 304, gets no body, whatever a program assigns to `request.method`. If no headers have been
 * sent, a failure leaves the response untouched. Otherwise a response that was to be ended is destroyed, so that its
 * client sees the failure.
 *
 * Errors: as for {@link copy}.
 */
export function sendFile(
  file: string | URL | FileHandle | number,
  destination: Destination,
  options?: SendFileOptions,
): Transfer {
  let settings, source, target: Endpoint | Response;
  try {
    settings = sendFileSettings(options);
    source = fileEndpoint(file);
    target = isResponse(destination) ? unused(destination) : endpoint('destination', destination);
    if (settings.endDestination === true) settings.endDestination = canBeEnded(destination);
  } catch (mistake) {
    if (source !== undefined) discard(source);
    return refused(mistake as Error);
  }
  if (source === undefined) settings.start ??= 0;
  const task = new Task('sendFile', settings);
  const from =
    source === undefined
      ? new PathFile(urlOf(file) ?? (file as string), wanted(settings, target), (mistake) =>
          task.refuse(mistake),
        )
      : new CallerFile(source);
  if (!isResponse(target)) lendConnections(task, [target]);
  task.attempt(() => {
    if (isResponse(target)) {
      sendToResponse(task, from, target, settings);
      return;
    }
    const nativeTarget = nativeSendTarget(source, target);
    if (nativeTarget === undefined) sendToStream(task, from, target, settings);
    else sendToDescriptor(task, from, nativeTarget, settings);
  });
  return task.transfer;
}

/** Rejects a response that another transfer is writing to. */
function unused(response: Response): Response {
  if (!isWrittenByTransfer(response)) return response;
  throw invalidValue('destination', 'must be a response that no other transfer is using');
}

/**
 * The part of the file to open. The file may be read in advance if its bytes will be sent at once: the limiter is consulted before
 * reading, and a response without a body needs no bytes.
 */
function wanted({ start, end, limit }: SendFileSettings, target: Endpoint | Response): Wanted {
  const takes = isResponse(target)
    ? !hasNoBody(target)
    : target.kind === 'socket' || target.kind === 'stream';
  return { start, end, readAhead: takes && limit === undefined };
}

/** The endpoint of a file that is already open; `undefined` for a path or URL, which is opened for the transfer. */
function fileEndpoint(file: unknown): FileEndpoints | undefined {
  if (typeof file === 'string') return undefined;
  const url = urlOf(file);
  if (url !== undefined) {
    if (url.protocol !== 'file:') throw invalidValue('file', `must be a file: URL. Received ${url.href}`);
    return undefined;
  }
  const isHandle = typeof file === 'object' && file !== null && isFileHandle(file);
  if (typeof file !== 'number' && !isHandle) {
    throw invalidType('file', 'a path, a file: URL, a FileHandle or the number of an open descriptor', file);
  }
  const source = endpoint('source', file, 'file');
  if (source.kind === 'file' || source.kind === 'unavailable') return source;
  if (source.kind === 'descriptor' && source.end.kind === 'file') return source;
  discard(source);
  throw invalidValue('file', 'must be a regular file');
}
