import type { FileHandle } from 'node:fs/promises';
import {
  areNative,
  canBeEnded,
  discard,
  type Endpoint,
  endpoint,
  type NativeEndpoint,
} from '../endpoint/endpoint.js';
import { invalidType, invalidValue } from '../contract/errors.js';
import { FileEnd, type FileEndpoints, type FileSource, OpenedFile } from '../file/file-source.js';
import { isWrittenByTransfer } from '../node/held-writes.js';
import { isFileHandle } from '../node/internals.js';
import { type SendFileSettings, sendFileSettings } from '../contract/options.js';
import { prepareBoth } from '../native/start.js';
import type { Wanted } from '../core/core.js';
import { SocketEnd } from '../native/socket-end.js';
import { hasNoBody, isResponse, type Response } from '../http/response.js';
import { sendNatively } from '../native/send-file.js';
import { sendToResponse } from '../http/send-response.js';
import { rangeOf, readerOfRange } from '../file/range.js';
import { writerOf } from '../stream/ends.js';
import { failureOf, isUsable } from '../endpoint/usable.js';
import { pump } from '../stream/start.js';
import type { Writer } from '../stream/flow.js';
import { refused, Task } from '../transfer/transfer.js';
import type { Destination, SendFileOptions, Transfer } from '../contract/types.js';

/**
 * Sends a file, or the part of it from `start` to `end` inclusive, to `destination`.
 *
 * What is sent is what is there at the start: of a file that grows not more, and one that gets shorter rejects with
 * `ERR_SOURCE_TRUNCATED`. A file of size 0, as in procfs, is read to its end. A path or `file:` URL must name a
 * regular file; it is opened for this call and closed at the end whatever happens. A number or `FileHandle` stays the
 * caller's, as the destination does.
 *
 * To an HTTP response it sends the headers first, with the Content-Length of the range unless they say how the body is
 * framed, and ends it. A response to HEAD, and one of status 204 or 304, gets no body. As long as no headers were sent,
 * a failure leaves the response as it was; after that a response that it was to end is destroyed, so that its client
 * sees the failure.
 *
 * Rejects as {@link copy} does.
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
      ? new FileEnd(file as string | URL, wanted(settings, target), (mistake) => task.refuse(mistake))
      : new OpenedFile(source);
  if (isResponse(target)) sendToResponse(task, from, target, settings);
  else if (areForCore(source, target)) sendToDescriptor(task, from, target, settings);
  else sendAsStream(task, from, target, settings);
  return task.transfer;
}

/** A response that no transfer writes to. */
function unused(response: Response): Response {
  if (!isWrittenByTransfer(response)) return response;
  throw invalidValue('destination', 'must be a response that no other transfer is using');
}

function areForCore(source: Endpoint | undefined, target: Endpoint): target is NativeEndpoint {
  return areNative([source ?? target, target]);
}

/** A limit is asked before anything is read, and what has no body needs no bytes. */
function wanted({ start, end, limit }: SendFileSettings, target: Endpoint | Response): Wanted {
  const takes = isResponse(target)
    ? !hasNoBody(target)
    : target.kind === 'socket' || target.kind === 'stream';
  return { start, end, readAhead: takes && limit === undefined };
}

function sendToDescriptor(
  task: Task,
  from: FileSource,
  target: NativeEndpoint,
  settings: SendFileSettings,
): void {
  const { endDestination = false } = settings;
  const to = new SocketEnd(target);
  task.release = async ({ failure }) => {
    await from.release();
    to.giveBack();
    if (endDestination && failure === undefined) to.end();
  };
  to.queue();
  prepareBoth(task, [from, to], () => {
    const how = { end: endDestination && to.isNumber, isFramed: false };
    sendNatively(task, from, to, rangeOf(from, settings), settings, how);
  });
}

function sendAsStream(task: Task, from: FileSource, target: Endpoint, settings: SendFileSettings): void {
  const { endDestination = false } = settings;
  task.engine = 'stream';
  let writer: Writer | undefined;
  let isStarted = false;
  task.release = async () => {
    if (!isStarted) await writer?.release();
    await from.release();
  };
  task.obeySignal();
  // Aborted before: it has let go already of what it had, and is not to take more.
  if (task.isOver) return;
  if (isUsable(target)) writer = writerOf(target, undefined, endDestination);
  else task.fail(failureOf(target));
  if (task.isOver || writer === undefined) return;
  const to = writer;
  from.prepare(
    () => {
      if (task.isOver) return;
      isStarted = true;
      const range = rangeOf(from, settings);
      const { end } = settings;
      // One that does not say how long it is can be asked for no more than that all the same.
      if (end !== undefined) range.length ??= Math.max(0, end + 1 - (settings.start ?? from.position() ?? 0));
      pump(task, readerOfRange(from, range), to, { ...settings, endDestination });
    },
    (failure) => task.fail(failure),
  );
}

/** The endpoint of a file that is already open; none for a path, which is opened for the transfer. */
function fileEndpoint(file: unknown): FileEndpoints | undefined {
  if (typeof file === 'string') return undefined;
  if (file instanceof URL) {
    if (file.protocol !== 'file:') throw invalidValue('file', `must be a file: URL. Received ${file.href}`);
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
