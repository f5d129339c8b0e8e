// Sends a file to an endpoint, on the engine that the verb has chosen. lib/http/send-response.ts sends one to a response.
import type { SendFileSettings } from '../contract/options.js';
import type { Endpoint, NativeEndpoint } from '../endpoint/endpoint.js';
import { failureOf, isUsable } from '../endpoint/usable.js';
import { sendNatively } from '../native/send-file.js';
import { SocketEnd } from '../native/socket-end.js';
import { prepareBoth } from '../native/start.js';
import { writerOf } from '../stream/ends.js';
import type { Writer } from '../stream/flow.js';
import { pump } from '../stream/start.js';
import type { Task } from '../transfer/transfer.js';
import type { FileSource } from './file-source.js';

/** Sends a file to a descriptor on the native engine. */
export function sendToDescriptor(
  task: Task,
  from: FileSource,
  target: NativeEndpoint,
  settings: SendFileSettings,
): void {
  const { endDestination = false } = settings;
  const to = new SocketEnd(target);
  task.release = async ({ failure, outcome }) => {
    await from.release();
    if (outcome?.error?.stuck === true) to.breakOff();
    to.giveBack();
    if (endDestination && failure === undefined) to.end();
  };
  to.takeOver();
  to.queue();
  prepareBoth(task, [from, to], () => {
    const framing = { endDestination: endDestination && to.isNumber, isFramed: false };
    sendNatively(task, from, to, from.range(settings), settings, framing);
  });
}

/** Sends a file to an endpoint on the stream engine. */
export function sendToStream(
  task: Task,
  from: FileSource,
  target: Endpoint,
  settings: SendFileSettings,
): void {
  const { endDestination = false } = settings;
  task.engine = 'stream';
  let writer: Writer | undefined;
  let isStarted = false;
  task.release = async () => {
    if (!isStarted) await writer?.release();
    await from.release();
  };
  task.obeySignal();
  // Already aborted: the ends are released, so no writer may be created.
  if (task.isOver) return;
  if (!isUsable(target)) task.fail(failureOf(target));
  else if (target.kind !== 'path') writer = writerOf(target, undefined, endDestination);
  if (task.isOver || writer === undefined) return;
  const to = writer;
  const begin = () => {
    // The stream may have been closed while the file was being opened.
    if (!isUsable(target)) task.fail(failureOf(target));
    if (task.isOver) return;
    const reader = from.reader(from.range(settings));
    isStarted = true;
    pump(task, reader, to, { ...settings, endDestination });
  };
  from.prepare(
    () => task.attempt(begin),
    (failure) => task.fail(failure),
    task.idleTimeout,
  );
}
