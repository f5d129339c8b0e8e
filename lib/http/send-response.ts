// Sends a file as the body of an HTTP response, through the core where the response allows that.
import { ServerResponse } from 'node:http';
import type { Endpoint } from '../endpoint/endpoint.js';
import type { Preparable } from '../endpoint/preparable.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { failureOf, isUsable, stateOf } from '../endpoint/usable.js';
import { type Failure, invalidValue, shorterThanAnnounced, streamDestroyed } from '../contract/errors.js';
import type { FileRange } from '../contract/file-range.js';
import { markWritten, unmarkWritten } from '../node/held-writes.js';
import { descriptorOf } from '../node/internals.js';
import type { PreopenedFile } from '../core/core-file.js';
import { binding, type NativeEnd } from '../core/core.js';
import type { SendFileSettings } from '../contract/options.js';
import { isPlainSocket } from '../node/plain-socket.js';
import { AnnouncedBody, ResponseCalls } from './announced-body.js';
import { closedFailure, isClosed, watchConnection } from './connection.js';
import {
  announcedLength,
  beginCount,
  countBody,
  hasNoBody,
  headerOf,
  requireLength,
  type Response,
  roomIn,
} from './framing.js';
import { breakOffIfShort, breakOffResponse, endResponse, ResponseEnd, takesNativeBody } from './response.js';
import { endAlready, sendNatively } from '../native/send-file.js';
import type { Reader } from '../stream/flow.js';
import { pump } from '../stream/start.js';
import { StreamWriter } from '../stream/writer.js';
import type { Task } from '../transfer/transfer.js';

/** A file to send as a body. */
export interface BodySource extends Preparable {
  /** Whether every byte to send was read when the file was opened. */
  readonly isAtHand: boolean;
  /** The range to send, by the size of the file at this moment. */
  range(bounds: SendFileSettings): FileRange;
  /** The descriptor's own position; `undefined` if it cannot be determined. */
  position(): number | undefined;
  /** Drops bytes that were read when the file was opened, so that `length` of them are left. */
  shorten(length: number): void;
  /** The file as the native engine takes it, or the reason why it is not open. */
  open(): NativeEnd | PreopenedFile | Failure;
  /** The range as the source of a stream. */
  reader(range: FileRange): Reader;
  /** Closes the file unless a transfer took it. */
  release(): Promise<void>;
}

/** Sends a file as the body of a response. */
export function sendToResponse(
  task: Task,
  from: BodySource,
  response: Response,
  settings: SendFileSettings,
): void {
  const { endDestination = true } = settings;
  const target: Endpoint = { kind: 'stream', side: 'destination', stream: response as WritableLike };
  if (stateOf(target) === 'ended') {
    task.release = () => from.release();
    task.fail(failureOf(target));
    return;
  }
  const releases: (() => void)[] = [];
  let isEndDue = false;
  let isFramedHere = false;
  // Calls of others are held from here until the release, which replays them.
  const calls = new ResponseCalls(response);
  calls.queue({ ignoresCork: false });
  markWritten(response);
  beginCount(response);
  task.release = async ({ failure, outcome }) => {
    const isSent = failure === undefined && outcome !== undefined;
    try {
      for (const release of releases) release();
    } finally {
      unmarkWritten(response);
      // The owner may answer with another body, of another length.
      if (!isSent && isFramedHere && !response.headersSent) response.removeHeader('content-length');
      const isBroken = failure !== undefined && response.headersSent && !response.writableFinished;
      const isLost = failure?.code === 'ERR_SOURCE_TRUNCATED' || outcome?.error?.stuck === true;
      const breaksOff = isBroken && (endDestination || isLost);
      // Before the calls that were held, which could make up the announced length.
      if (breaksOff) breakOffResponse(response);
      calls.detach();
      calls.replay();
      await from.release();
    }
    if (isSent && isPiece(settings)) breakOffIfShort(response);
    if (!isSent || !endDestination || !isEndDue) return undefined;
    const unfinished = await endResponse(response, task.idleTimeout);
    if (unfinished !== undefined) breakOffResponse(response);
    return unfinished;
  };
  task.obeySignal();
  const requireOpen = () => {
    if (!isUsable(target)) task.fail(failureOf(target));
    else if (isClosed(response)) task.fail(closedFailure(response));
  };
  requireOpen();
  if (task.isOver) return;
  releases.push(watchConnection(response, () => task.fail(streamDestroyed('destination', response))));
  const send = () => {
    const range = from.range(settings);
    isFramedHere = !response.hasHeader('content-length');
    requireLength(response);
    const first = Math.max(0, range.start ?? from.position() ?? 0);
    const wanted = bodyOf(response, range, first, settings);
    if (wanted === undefined) {
      task.fail(shorterThanAnnounced());
      return;
    }
    announce(response, wanted);
    const isForCore = takesNativeBody(response);
    if (hasNoBody(response)) {
      isEndDue = true;
      sendNothing(task, response, endDestination);
      return;
    }
    // The headers may have been changed when they were sent.
    const body = bodyOf(response, range, first, settings);
    if (body === undefined) {
      task.fail(shorterThanAnnounced());
      return;
    }
    if (body.length !== undefined && body.length < (range.length ?? 0)) from.shorten(body.length);
    if (isForCore && body.length === 0) {
      isEndDue = true;
      endAlready(task, 0);
    } else if (isForCore) {
      isEndDue = true;
      sendBody(task, from, response, settings, body, calls, releases);
    } else {
      const announced = new AnnouncedBody(response, isPiece(settings) ? undefined : shorterThanAnnounced());
      const writer = new StreamWriter('destination', response as WritableLike, undefined, calls);
      releases.push(() => countBody(response, task.traffic.tx));
      pump(task, from.reader(body), writer, { ...settings, endDestination }, announced);
    }
  };
  const begin = () => {
    // The response may have been closed while the file was being opened.
    requireOpen();
    if (task.isOver) return;
    calls.detach();
    const uncork = from.isAtHand ? corked(response) : () => {};
    try {
      send();
    } catch (error) {
      if (response.headersSent || isSystemError(error)) throw error;
      // A caller's mistake. Node throws as well, for headers that contradict each other.
      if (isFramedHere) response.removeHeader('content-length');
      task.refuse(error as Error);
    } finally {
      uncork();
    }
  };
  from.prepare(
    () => task.attempt(begin),
    (failure) => task.fail(failure),
    task.idleTimeout,
  );
}

/** Whether a call of the system has failed, which is no mistake of the caller. */
function isSystemError(error: unknown): boolean {
  return typeof (error as { errno?: unknown } | null | undefined)?.errno === 'number';
}

/** Holds headers in the kernel until they can go out together with a body that is at hand; returns the way back. */
function corked(response: Response): () => void {
  const { socket } = response;
  if (!(response instanceof ServerResponse) || !isPlainSocket(socket, 'destination')) return () => {};
  const fd = descriptorOf(socket);
  if (fd === undefined) return () => {};
  const core = binding();
  core?.cork(fd, true);
  return () => core?.cork(fd, false);
}

/** Whether the file is one of several parts of the body, so that others may write the rest. */
function isPiece({ end, endDestination = true }: SendFileSettings): boolean {
  return !endDestination && end !== undefined;
}

/**
 * The part of the range that is sent: as much as the headers announce. `undefined` if the file has less. Throws if the
 * headers contradict the bounds that the caller gave, rather than the size of the file.
 */
function bodyOf(
  response: Response,
  range: FileRange,
  first: number,
  settings: SendFileSettings,
): FileRange | undefined {
  const room = roomIn(response);
  if (room === Infinity) return range;
  const { length = Infinity } = range;
  const span = settings.end === undefined ? undefined : Math.max(0, settings.end + 1 - first);
  // An empty file has no byte for any bounds: `send` passes `end: 0` for it, and a Content-Length of 0.
  const hasSpan = range.length === undefined ? room > 0 : length >= (span ?? 0);
  const isLess = span !== undefined && room < span && hasSpan;
  const isMore = span !== undefined && room > span && !isPiece(settings);
  if ((isLess || isMore) && !response.headersSent) {
    throw invalidValue(
      'destination',
      `has a Content-Length of ${announcedLength(response)}, but ${span} bytes are to be sent`,
    );
  }
  if (room > length) return isPiece(settings) ? range : undefined;
  return { ...range, last: first + room - 1, length: room };
}

/** Sets the Content-Length unless the headers determine the framing already. */
function announce(response: Response, { length }: FileRange): void {
  const { headersSent, statusCode } = response;
  if (length === undefined || headersSent || statusCode === 204 || statusCode === 304) return;
  if (headerOf(response, 'content-length') !== undefined) return;
  if (headerOf(response, 'transfer-encoding') === undefined) response.setHeader('Content-Length', length);
}

function sendNothing(task: Task, response: Response, end: boolean): void {
  if (!end && !response.headersSent && 'flushHeaders' in response) response.flushHeaders();
  endAlready(task, 0);
}

function sendBody(
  task: Task,
  from: BodySource,
  response: ServerResponse,
  settings: SendFileSettings,
  range: FileRange,
  calls: ResponseCalls,
  releases: (() => void)[],
): void {
  const to = new ResponseEnd(response, calls);
  releases.push(() => to.giveBack());
  // The response's own end() ends it, and its socket lives on.
  const framing = { endDestination: false, isFramed: true };
  const send = () => sendNatively(task, from, to, range, settings, framing);
  to.prepare(
    () => {
      if (!task.isOver) task.attempt(send);
    },
    (failure) => task.fail(failure),
    task.idleTimeout,
  );
}
