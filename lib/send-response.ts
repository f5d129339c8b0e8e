import type { ServerResponse } from 'node:http';
import type { Endpoint } from './endpoint.js';
import { invalidValue } from './errors.js';
import type { FileSource } from './file-end.js';
import { HeldCalls } from './held-calls.js';
import { holdWrites, letWritesGo } from './held-writes.js';
import { binding, type Outcome, start as begin } from './native.js';
import type { SendFileSettings } from './options.js';
import { inCore } from './rate-limiter.js';
import {
  breakOffResponse,
  endResponse,
  hasNoBody,
  headerOf,
  isPlain,
  type Response,
  ResponseEnd,
  sendHeaders,
} from './response.js';
import { type Range, rangeOf } from './send-range.js';
import { FileReader } from './stream/files.js';
import { alreadyEnded } from './stream/failures.js';
import { failureOf, isUsable, pump } from './stream/verbs.js';
import { StreamWriter, type WritableLike } from './stream/writer.js';
import type { Task } from './transfer.js';

/** Sends a file as the body of a response. */
export function sendToResponse(
  task: Task,
  from: FileSource,
  response: Response,
  settings: SendFileSettings,
): void {
  const { endDestination = true } = settings;
  if (response.writableEnded && !response.destroyed) {
    task.release = () => from.release();
    task.fail(alreadyEnded('destination'));
    return;
  }
  const letGo: (() => void)[] = [];
  let isEndDue = false;
  let isFramedHere = false;
  // From the call on, as every destination; whoever writes the body takes these calls over.
  const calls = new HeldCalls(response);
  calls.lay();
  holdWrites(response);
  task.release = async ({ failure, outcome }) => {
    for (const each of letGo) each();
    letWritesGo(response);
    calls.lift();
    calls.replay();
    await from.release();
    // Whoever answers instead has a body of another length.
    if (failure !== undefined && isFramedHere && !response.headersSent)
      response.removeHeader('content-length');
    const isBroken = failure !== undefined && response.headersSent && !response.writableFinished;
    if (isBroken && (endDestination || failure.code === 'ERR_SOURCE_TRUNCATED')) breakOffResponse(response);
    else if (failure === undefined && outcome !== undefined && endDestination && isEndDue) {
      await endResponse(response);
    }
  };
  const target: Endpoint = { kind: 'stream', side: 'destination', stream: response as WritableLike };
  task.obeySignal();
  if (!isUsable(target)) task.fail(failureOf(target));
  if (task.isOver) return;
  const send = () => {
    const range = rangeOf(from, settings);
    isFramedHere = !response.hasHeader('content-length');
    frame(response, range);
    const isForCore = isPlain(response) && sendHeaders(response);
    if (hasNoBody(response)) {
      isEndDue = true;
      sendNothing(task, response, endDestination);
    } else if (isForCore) {
      isEndDue = true;
      sendBody(task, from, response, settings, range, letGo);
    } else {
      const reader = new FileReader(from, { ...range, rewind: from.rewind });
      const writer = new StreamWriter('destination', response as WritableLike);
      pump(task, reader, writer, { ...settings, endDestination });
    }
  };
  from.prepare(
    () => {
      // It may have been closed while the file was being opened.
      if (!isUsable(target)) task.fail(failureOf(target));
      if (task.isOver) return;
      calls.lift();
      try {
        send();
      } catch (mistake) {
        // Node's too: headers that contradict each other.
        if (isFramedHere && !response.headersSent) response.removeHeader('content-length');
        task.refuse(mistake as Error);
      }
      if (!task.isOver) calls.replay();
    },
    (failure) => task.fail(failure),
  );
}

/** Says how long the body is, unless that was said. Throws where the headers say something else. */
function frame(response: Response, { length }: Range): void {
  const told = headerOf(response, 'content-length');
  if (length === undefined || response.statusCode === 204 || response.statusCode === 304) return;
  if (told !== undefined && Number(told) !== length) {
    throw invalidValue('destination', `has a Content-Length of ${told}, but ${length} bytes are to be sent`);
  }
  if (told !== undefined || response.headersSent) return;
  if (headerOf(response, 'transfer-encoding') === undefined) response.setHeader('Content-Length', length);
}

function sendNothing(task: Task, response: Response, end: boolean): void {
  if (!end && !response.headersSent && 'flushHeaders' in response) response.flushHeaders();
  const engine = binding === undefined ? 'stream' : 'native';
  task.run((settled) => {
    setImmediate(settled, { tx: 0, rx: 0, zeroCopy: 0, aEnded: true, bEnded: false });
    return { traffic: () => ({ tx: 0, rx: 0 }), abort: () => {} };
  }, engine);
}

function sendBody(
  task: Task,
  from: FileSource,
  response: ServerResponse,
  { start, end, how, limit }: SendFileSettings,
  { length }: Range,
  letGo: (() => void)[],
): void {
  const to = new ResponseEnd(response);
  letGo.push(() => to.giveBack());
  to.prepare(
    () => {
      if (task.isOver) return;
      const [file, socket] = [from.open(), to.open()];
      for (const each of [file, socket]) if ('code' in each) task.fail(each);
      if ('code' in file || 'code' in socket) return;
      const what = {
        ...(start === undefined ? {} : { start }),
        ...(end === undefined ? {} : { end }),
        endDestination: false,
      };
      to.hold(() => task.traffic.tx);
      task.run((settled) => {
        // The core looks at the file's size again, after the headers were sent.
        const ended = (outcome: Outcome) => {
          const isShort = outcome.error === undefined && outcome.tx < (length ?? 0);
          settled(isShort ? { ...outcome, error: { reason: 'truncated', side: 'source' } } : outcome);
        };
        return begin((core, id) => core.sendFile(id, file, socket, what, how, inCore(limit)), ended);
      });
    },
    (failure) => task.fail(failure),
    task.idleTimeout,
  );
}
