// Sends the file of a stream that a package pipes into a response, in the place of the stream.
import { fstat } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { sendFile } from '../../../index.js';
import { type FileStream, isReplaceable, SMALL } from './replaceable.js';

const statOf = promisify(fstat);

/** Keeps a stream that is piped into this response from reading, and sends its file when it is open. */
export function hold(this: ServerResponse, source: FileStream): void {
  if (!isReplaceable(source, this) || Object.hasOwn(source, 'read')) return;
  Object.assign(source, { read: () => null });
  if (source.pending) source.once('open', () => void send(source, this));
  else void send(source, this);
}

async function send(source: FileStream, response: ServerResponse): Promise<void> {
  const { fd, start, end } = source;
  const length = response.getHeader('content-length');
  // By now, listeners that were added after the call of pipe() are there as well.
  const { size } = await (length === undefined ? statOf(fd).catch(() => ({ size: 0 })) : { size: Infinity });
  const leave = () => void source.destroy();
  if (response.destroyed) return leave();
  // A stream of the whole body fails if its file has become shorter. Another one may be a part of the body.
  const last = end - (start ?? 0) + 1 === Number(length) ? undefined : Math.min(end, Number.MAX_SAFE_INTEGER);
  const isStopped = source.destroyed || source.isPaused();
  const isReady = size > SMALL && !isStopped && isReplaceable(source, response);
  const options = { start, end: last, endDestination: false, reject: false };
  const transfer = isReady ? sendFile(fd, response, options) : undefined;
  const abort = () => transfer?.abort();
  source.once('close', abort);
  // Added after the listeners of the package: some destroy the stream themselves, with a reason, when the client has left.
  response.once('close', leave);
  // A rejection means that only the stream can send this file, as with a FIFO.
  const { tx, error } = (await transfer?.catch(() => undefined)) ?? { tx: 0, error: undefined };
  source.off('close', abort);
  if (error?.side === 'destination' && response.socket !== null) return void response.destroy(error);
  response.off('close', leave);
  if (source.destroyed) return;
  Reflect.deleteProperty(source, 'read');
  source.bytesRead += tx;
  if (error === null) source.push(null);
  else if (error?.side === 'destination') leave();
  else if (error === undefined || (tx === 0 && error.code !== 'ERR_SOURCE_TRUNCATED')) source.read(0);
  else if (error.code !== 'ERR_SOURCE_TRUNCATED' || source.listenerCount('error') > 0) source.destroy(error);
  else breakOff(source, response);
}

/** A stream does not fail if its file becomes shorter, so a package may add no listener for errors. */
function breakOff(source: FileStream, response: ServerResponse): void {
  source.destroy();
  response.destroy();
}
