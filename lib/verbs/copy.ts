import {
  areNative,
  canBeEnded,
  discard,
  type Endpoint,
  endpoint,
  isForCore,
  type StreamEndpoint,
} from '../endpoint/endpoint.js';
import { invalidValue } from '../contract/errors.js';
import { startNative } from '../core/core.js';
import { type CopySettings, copySettings } from '../contract/options.js';
import { checkEnds, startWhenReady } from '../native/start.js';
import { PreparedEnd } from '../native/socket-end.js';
import { inCore } from '../contract/rate-limiter.js';
import { isPlain, isResponse, ResponseEnd, sendHeaders } from '../http/response.js';
import { copyStreams } from '../stream/start.js';
import { type Ending, refused, Task } from '../transfer/transfer.js';
import type { CopyOptions, Destination, Source, Transfer } from '../contract/types.js';

/**
 * Copies bytes from `source` to `destination` until the end of input or `length`, the cheapest way the kernel has for
 * the two.
 *
 * Both stay the caller's: nothing is closed, and a socket works in Node afterwards as before. While the copy runs,
 * `write()` and `end()` on a destination socket are held and follow it. If the copy fails or is aborted, bytes taken
 * from the source and not accepted by the destination go back: the position of a file stands in front of them, a
 * socket gives them to its next reader, and for other numbers they are in the error's `undelivered`.
 *
 * Rejects with a {@link TransferError} that carries the counts, unless `reject` is `false`; with a `TypeError`,
 * `RangeError` or an `EBADF` `Error` for a mistake in the arguments, before a byte has moved.
 */
export function copy(source: Source, destination: Destination, options?: CopyOptions): Transfer {
  let settings, checked, target;
  try {
    settings = copySettings(options);
    checked = checkEnds(
      () => endpoint('source', source),
      () => endpoint('destination', destination),
    );
    requireFiles(checked, settings);
    settings.endDestination &&= canBeEnded(destination);
    target = nativeTarget(checked, settings.signal?.aborted === true);
  } catch (mistake) {
    if (checked !== undefined) discard(...checked);
    return refused(mistake as Error);
  }
  const { how, limit, endDestination, start, length, position } = settings;
  const head = settings.head === undefined ? new Uint8Array() : Uint8Array.from(settings.head);
  const task = new Task('copy', settings);
  if (target === undefined) {
    copyStreams(task, checked, settings);
    return task.transfer;
  }
  const [from, to] = target;
  task.release = async ({ failure, outcome }: Ending) => {
    const left = outcome?.error?.undelivered ?? Buffer.alloc(0);
    // Bytes of the head never came from the source: they do not go back there.
    const unread = left.subarray(Math.max(0, head.length - (outcome?.tx ?? 0)));
    const isLost = from.socket === undefined || from.socket.destroyed;
    if (unread.length > 0 && isLost && failure !== undefined) failure.undelivered = unread;
    from.giveBack(unread);
    to.giveBack();
    if (endDestination && failure === undefined) await to.end();
  };
  to.queue();
  startWhenReady(task, [from, to], ([openSource, openDestination]) => {
    const taken = from.reads?.takeUnread(length) ?? Buffer.alloc(0);
    const what = {
      ...(start === undefined ? {} : { start }),
      ...(position === undefined ? {} : { position }),
      head: Buffer.concat([head, taken]),
      endDestination: endDestination && to.isNumber,
      ...(length === undefined ? {} : { length: length - taken.length }),
    };
    const written = () => task.traffic.tx;
    // Node has counted what it had read itself.
    from.account(() => ({ read: Math.max(0, written() - head.length - taken.length), written: 0 }));
    to.hold(written);
    task.run((settled) =>
      startNative(
        (core, id) => core.copy(id, openSource, openDestination, what, how, inCore(limit)),
        settled,
      ),
    );
  });
  return task.transfer;
}

/** Both ends as the core takes them; a response with a length is a socket to it. Nothing where it cannot. */
function nativeTarget(
  ends: readonly [Endpoint, Endpoint],
  isAborted: boolean,
): [PreparedEnd, PreparedEnd | ResponseEnd] | undefined {
  if (areNative(ends)) return [new PreparedEnd(ends[0]), new PreparedEnd(ends[1])];
  const [source, { kind, ...destination }] = ends;
  if (kind !== 'stream' || !isForCore(source)) return undefined;
  const { stream } = destination as StreamEndpoint;
  if (stream.destroyed === true || !isResponse(stream) || !isPlain(stream)) return undefined;
  if (!isAborted && !sendHeaders(stream)) return undefined;
  return [new PreparedEnd(source), new ResponseEnd(stream)];
}

/** Positions have a meaning in files alone. */
function requireFiles([source, destination]: [Endpoint, Endpoint], { start, position }: CopySettings): void {
  const fail = (name: string, problem: string) => {
    throw invalidValue(name, problem);
  };
  // Of one that is unavailable nobody knows; that fails the copy anyway.
  const isFile = (end: Endpoint) =>
    end.kind === 'file' ||
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
