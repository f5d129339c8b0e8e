import type { FileHandle } from 'node:fs/promises';
import { account } from './accounting.js';
import { discard, type Endpoint, endpoint } from './endpoint.js';
import { invalidType, invalidValue } from './errors.js';
import { FileEnd } from './file-end.js';
import { start as begin } from './native.js';
import { sendFileSettings } from './options.js';
import { startWhenReady } from './prepare.js';
import { PreparedEnd } from './prepared-end.js';
import { refused, Task } from './transfer.js';
import type { Destination, SendFileOptions, Transfer } from './types.js';

/**
 * Sends a file, or the part of it from `start` to `end` inclusive, to `destination`.
 *
 * What is sent is what is there at the start: of a file that grows not more, and one that gets shorter rejects with
 * `ERR_SOURCE_TRUNCATED`. A file of size 0, as in procfs, is read to its end. A path or `file:` URL must name a
 * regular file; it is opened for this call and closed at the end whatever happens. A number or `FileHandle` stays the
 * caller's, as the destination does.
 *
 * Rejects as {@link copy} does.
 */
export function sendFile(
  file: string | URL | FileHandle | number,
  destination: Destination,
  options?: SendFileOptions,
): Transfer {
  let settings, source, checked;
  try {
    settings = sendFileSettings(options);
    source = fileEndpoint(file);
    checked = endpoint('destination', destination);
  } catch (mistake) {
    if (source !== undefined) discard(source);
    return refused(mistake as Error);
  }
  const { how, limit, endDestination, end } = settings;
  const start = settings.start ?? (source === undefined ? 0 : undefined);
  const task = new Task('sendFile', settings);
  const from =
    source === undefined
      ? new FileEnd(file as string | URL, (mistake) => task.refuse(mistake))
      : new PreparedEnd(source);
  const to = new PreparedEnd(checked);
  const stopAccounting: (() => void)[] = [];
  task.release = async ({ failure }) => {
    for (const stop of stopAccounting) stop();
    await from.release();
    to.giveBack(Buffer.alloc(0));
    if (endDestination && failure === undefined) to.socket?.end();
  };
  to.writes?.queue();
  startWhenReady(task, [from, to], ([openFile, openDestination]) => {
    const what = {
      ...(start === undefined ? {} : { start }),
      ...(end === undefined ? {} : { end }),
      endDestination: endDestination && to.socket === undefined,
    };
    to.writes?.hold();
    if (to.socket) stopAccounting.push(account(to.socket, () => ({ read: 0, written: task.traffic.tx })));
    task.run((settled) =>
      begin((core, id) => core.sendFile(id, openFile, openDestination, what, how, limit), settled),
    );
  });
  return task.transfer;
}

/** The endpoint of a file that is already open; none for a path, which is opened for the transfer. */
function fileEndpoint(file: unknown): Endpoint | undefined {
  if (typeof file === 'string') return undefined;
  if (file instanceof URL) {
    if (file.protocol !== 'file:') throw invalidValue('file', `must be a file: URL. Received ${file.href}`);
    return undefined;
  }
  const isHandle = typeof file === 'object' && file?.constructor?.name === 'FileHandle';
  if (typeof file !== 'number' && !isHandle) {
    throw invalidType('file', 'a path, a file: URL, a FileHandle or the number of an open descriptor', file);
  }
  const source = endpoint('source', file);
  if (source.kind === 'unavailable' || (source.kind === 'descriptor' && source.end.kind === 'file'))
    return source;
  discard(source);
  throw invalidValue('file', 'must be a regular file');
}
