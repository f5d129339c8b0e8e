// copy(): one direction, from a source to a destination.
import { invalidValue } from '../contract/errors.js';
import { type CopySettings, copySettings } from '../contract/options.js';
import type { CopyOptions, Destination, Source, Transfer } from '../contract/types.js';
import { lendConnections } from '../endpoint/connection.js';
import { canBeEnded, copyEndpoint, discard, type Endpoint } from '../endpoint/endpoint.js';
import { copyToResponse, exceedsStrictly, limitCopy, prepareCopy } from '../http/copy-response.js';
import { isResponse } from '../http/response.js';
import { copyNatively } from '../native/copy.js';
import { copyPaths } from '../native/copy-paths.js';
import { copyStreams } from '../stream/start.js';
import { refused, Task } from '../transfer/transfer.js';
import { checkEnds } from './check-ends.js';
import { nativeCopyEnds, nativePaths } from './engine.js';

/**
 * Copies bytes from `source` to `destination` until the end of the source or `length` bytes, by the cheapest way that
 * the kernel offers for these two.
 *
 * Ownership: every end except the file of a path stays the caller's. It is not closed, and a socket works in Node afterwards
 * as before. While the copy runs, `write()` and `end()` on its destination are held, and take effect after it.
 *
 * Files: a path or `file:` URL must name a regular file. It is opened for this call and closed at the end in every case.
 * The source is opened first: if that fails, the destination is neither created nor truncated. A missing destination is
 * created with mode 0666 minus the umask. An existing one is truncated, unless `position` is given. After a failure the
 * destination keeps the bytes that were written. Without `position`, a destination that is the same file as the source,
 * also by another name, is a caller's mistake, and is not truncated.
 *
 * HTTP: into a response with a Content-Length, at most the bytes that it still allows are copied. If the copy is to end the
 * response and the source ends before, it fails with `ERR_HTTP_CONTENT_LENGTH_MISMATCH`, and the response is destroyed.
 * Every failure destroys a response that was to be ended and whose headers were sent, so that its client sees the failure.
 *
 * Failure and abort: bytes that were taken from the source and not accepted by the destination go back. The position of
 * a file is moved back, and a socket, connection or stream gives them to its next reader. For other numbers they are in the error's
 * `undelivered`.
 *
 * Errors: rejects with a {@link TransferError} that carries the counts; with `reject: false` it resolves instead, with
 * that error in the result. A caller's mistake always rejects, with a `TypeError`, a `RangeError` or an `Error` with the
 * code `EBADF`, before any byte has moved.
 */
export function copy(
  source: Source,
  destination: Destination | string | URL,
  options?: CopyOptions,
): Transfer {
  let settings, ends, nativeEnds;
  // A path turns out to be no regular file only when it is opened.
  const refuse = (mistake: Error) => task.refuse(mistake);
  try {
    settings = copySettings(options);
    ends = checkEnds(
      () => copyEndpoint('source', source),
      () => copyEndpoint('destination', destination),
    );
    requireFiles(ends, settings);
    settings.endDestination &&= canBeEnded(destination);
    if (isResponse(destination)) prepareCopy(destination);
    const isStream = isResponse(destination) && exceedsStrictly(ends[0], destination, settings);
    nativeEnds = isStream ? undefined : nativeCopyEnds(ends, settings, refuse);
  } catch (mistake) {
    if (ends !== undefined) discard(...ends);
    return refused(mistake as Error);
  }
  const task = new Task('copy', settings);
  lendConnections(task, ends);
  const paths = nativePaths(ends);
  task.attempt(() => {
    if (paths !== undefined) {
      copyPaths(task, paths, settings);
    } else if (nativeEnds !== undefined) {
      if (isResponse(destination)) limitCopy(settings, destination);
      copyNatively(task, nativeEnds, settings);
    } else if (isResponse(destination)) {
      copyToResponse(task, ends, destination, settings);
    } else {
      copyStreams(task, ends, settings);
    }
  });
  return task.transfer;
}

/** Rejects a position in an end that is not a regular file. */
function requireFiles([source, destination]: [Endpoint, Endpoint], { start, position }: CopySettings): void {
  const fail = (name: string, problem: string) => {
    throw invalidValue(name, problem);
  };
  // An unavailable end has no kind. The copy fails when it is opened.
  const isFile = (end: Endpoint) =>
    end.kind === 'file' ||
    end.kind === 'path' ||
    end.kind === 'unavailable' ||
    (end.kind === 'descriptor' && end.end.kind === 'file');
  const appends = (end: Endpoint) =>
    end.kind === 'descriptor' ? end.end.appends : end.kind === 'file' && end.appends;
  if (start !== undefined && !isFile(source)) fail('options.start', 'needs a source that is a regular file');
  if (position === undefined) return;
  if (!isFile(destination)) fail('options.position', 'needs a destination that is a regular file');
  if (appends(destination)) {
    fail('options.position', 'means nothing for a destination opened with O_APPEND');
  }
}
