// Sends a file as the body of an HTTP response, through the core where the response allows that.
import { ServerResponse } from 'node:http';
import type { Endpoint } from '../endpoint/endpoint.js';
import type { Preparable } from '../endpoint/preparable.js';
import type { WritableLike } from '../endpoint/stream-kinds.js';
import { failureOf, isUsable, stateOf } from '../endpoint/usable.js';
import { type Failure, invalidValue } from '../contract/errors.js';
import type { FileRange } from '../contract/file-range.js';
import { HeldCalls } from '../node/held-calls.js';
import { markWritten, unmarkWritten } from '../node/held-writes.js';
import { descriptorOf } from '../node/internals.js';
import type { PreopenedFile } from '../core/core-file.js';
import { binding, type NativeEnd } from '../core/core.js';
import type { SendFileSettings } from '../contract/options.js';
import { isPlainSocket } from '../node/plain-socket.js';
import { hasNoBody, headerOf, type Response } from './framing.js';
import { breakOffResponse, endResponse, ResponseEnd, takesNativeBody } from './response.js';
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
  // Calls are queued from the start of the transfer. The part that writes the body queues them again.
  const calls = new HeldCalls(response);
  calls.queue({ ignoresCork: false });
  markWritten(response);
  task.release = async ({ failure, outcome }) => {
    try {
      for (const release of releases) release();
    } finally {
      unmarkWritten(response);
      calls.detach();
      calls.replay();
      await from.release();
    }
    // The caller may answer with another body, of another length.
    if (failure !== undefined && isFramedHere && !response.headersSent)
      response.removeHeader('content-length');
    const isBroken = failure !== undefined && response.headersSent && !response.writableFinished;
    if (isBroken && (endDestination || failure.code === 'ERR_SOURCE_TRUNCATED')) breakOffResponse(response);
    else if (failure === undefined && outcome !== undefined && endDestination && isEndDue) {
      await endResponse(response);
    }
  };
  task.obeySignal();
  if (!isUsable(target)) task.fail(failureOf(target));
  if (task.isOver) return;
  const send = () => {
    const range = from.range(settings);
    isFramedHere = !response.hasHeader('content-length');
    frame(response, range);
    const isForCore = takesNativeBody(response);
    if (hasNoBody(response)) {
      isEndDue = true;
      sendNothing(task, response, endDestination);
    } else if (isForCore) {
      isEndDue = true;
      sendBody(task, from, response, settings, range, releases);
    } else {
      const reader = from.reader(range);
      const writer = new StreamWriter('destination', response as WritableLike);
      pump(task, reader, writer, { ...settings, endDestination });
    }
  };
  const begin = () => {
    // The response may have been closed while the file was being opened.
    if (!isUsable(target)) task.fail(failureOf(target));
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
    if (!task.isOver) calls.replay();
  };
  from.prepare(
    () => task.attempt(begin),
    (failure) => task.fail(failure),
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

/** Sets the Content-Length unless the headers determine the framing already. Throws if they contradict the range. */
function frame(response: Response, { length }: FileRange): void {
  const declared = headerOf(response, 'content-length');
  if (length === undefined || response.statusCode === 204 || response.statusCode === 304) return;
  if (declared !== undefined && Number(declared) !== length) {
    throw invalidValue(
      'destination',
      `has a Content-Length of ${declared}, but ${length} bytes are to be sent`,
    );
  }
  if (declared !== undefined || response.headersSent) return;
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
  releases: (() => void)[],
): void {
  const to = new ResponseEnd(response);
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
