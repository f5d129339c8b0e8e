// Copies into an HTTP response: never more than its headers announce.
import { lengthMismatch, streamDestroyed } from '../contract/errors.js';
import type { CopySettings } from '../contract/options.js';
import { discard, type Endpoint } from '../endpoint/endpoint.js';
import { copyStreams } from '../stream/start.js';
import type { Task } from '../transfer/transfer.js';
import { AnnouncedBody, ResponseCalls } from './announced-body.js';
import { closedFailure, isClosed, watchConnection } from './connection.js';
import { beginCount, countBody, isCounted, requireLength, type Response, roomIn } from './framing.js';
import { breakOffResponse } from './response.js';

/** Checks the headers of a response before a copy, and begins to count its body. Throws a caller's mistake. */
export function prepareCopy(response: Response): void {
  requireLength(response);
  beginCount(response);
}

/** Limits a copy to the bytes that the headers of its response still allow. */
export function limitCopy(settings: CopySettings, response: Response): void {
  const room = roomIn(response);
  if (room === Infinity) return;
  settings.head = settings.head?.subarray(0, room);
  settings.length = Math.min(settings.length ?? Infinity, room - (settings.head?.length ?? 0));
}

/**
 * Whether a copy of a file is known to exceed the headers of a response with `strictContentLength`. Node itself fails such
 * a response, so the bytes have to go through it.
 */
export function exceedsStrictly(source: Endpoint, response: Response, settings: CopySettings): boolean {
  if (!('strictContentLength' in response) || !response.strictContentLength) return false;
  if (source.kind !== 'descriptor' || source.end.kind !== 'file') return false;
  const { start = Math.max(0, source.end.rewind(0)), length = Infinity, head } = settings;
  const available = Math.max(0, source.end.knownSize - start);
  return Math.min(length, available) + (head?.length ?? 0) > roomIn(response);
}

/** Copies into a response on the stream engine. */
export function copyToResponse(
  task: Task,
  ends: readonly [Endpoint, Endpoint],
  response: Response,
  settings: CopySettings,
): void {
  const { endDestination } = settings;
  if (isClosed(response) && !response.writableEnded) {
    task.engine = 'stream';
    task.release = () => discard(...ends);
    task.fail(closedFailure(response));
    return;
  }
  const shortage = endDestination && isCounted(response) ? lengthMismatch() : undefined;
  const announced = new AnnouncedBody(response, shortage);
  const calls = new ResponseCalls(response);
  const forget = watchConnection(response, () => task.fail(streamDestroyed('destination', response)));
  task.release = ({ failure }) => {
    forget();
    countBody(response, task.traffic.tx);
    // The response was to be ended, and cannot end as its headers say: its client must see that.
    const isBroken = response.headersSent && !response.writableFinished;
    if (endDestination && failure !== undefined && (isBroken || failure.code === lengthMismatch().code)) {
      breakOffResponse(response);
    }
    calls.restore();
    calls.replay();
  };
  copyStreams(task, ends, settings, { announced, calls });
}
