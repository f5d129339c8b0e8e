import { account } from './accounting.js';
import { discard, type Endpoint, endpoint } from './endpoint.js';
import { invalidValue } from './errors.js';
import { start as begin } from './native.js';
import { type CopySettings, copySettings } from './options.js';
import { checkEnds, startWhenReady } from './prepare.js';
import { PreparedEnd } from './prepared-end.js';
import { type Ending, refused, Task } from './transfer.js';
import type { CopyOptions, Destination, Source, Transfer } from './types.js';

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
  let settings, checked;
  try {
    settings = copySettings(options);
    checked = checkEnds(
      () => endpoint('source', source),
      () => endpoint('destination', destination),
    );
    requireFiles(checked, settings);
  } catch (mistake) {
    return refused(mistake as Error);
  }
  const { how, limit, endDestination, start, length, position } = settings;
  const head = settings.head === undefined ? new Uint8Array() : Uint8Array.from(settings.head);
  const task = new Task('copy', settings);
  const ends = [new PreparedEnd(checked[0]), new PreparedEnd(checked[1])] as const;
  const [from, to] = ends;
  const stopAccounting: (() => void)[] = [];
  task.release = ({ failure, outcome }: Ending) => {
    for (const stop of stopAccounting) stop();
    const left = outcome?.error?.undelivered ?? Buffer.alloc(0);
    // Bytes of the head never came from the source: they do not go back there.
    const unread = left.subarray(Math.max(0, head.length - (outcome?.tx ?? 0)));
    if (unread.length > 0 && from.socket === undefined && failure !== undefined) failure.undelivered = unread;
    from.giveBack(unread);
    to.giveBack(Buffer.alloc(0));
    if (endDestination && failure === undefined) to.socket?.end();
  };
  to.writes?.queue();
  startWhenReady(task, ends, ([openSource, openDestination]) => {
    const taken = from.reads?.takeUnread(length) ?? Buffer.alloc(0);
    const what = {
      ...(start === undefined ? {} : { start }),
      ...(position === undefined ? {} : { position }),
      head: Buffer.concat([head, taken]),
      endDestination: endDestination && to.socket === undefined,
      ...(length === undefined ? {} : { length: length - taken.length }),
    };
    to.writes?.hold();
    const written = () => task.traffic.tx;
    // Node has counted what it had read itself.
    const read = () => Math.max(0, written() - head.length - taken.length);
    if (from.socket) stopAccounting.push(account(from.socket, () => ({ read: read(), written: 0 })));
    if (to.socket) stopAccounting.push(account(to.socket, () => ({ read: 0, written: written() })));
    task.run((settled) =>
      begin((core, id) => core.copy(id, openSource, openDestination, what, how, limit), settled),
    );
  });
  return task.transfer;
}

/** Positions have a meaning in files alone. */
function requireFiles([source, destination]: [Endpoint, Endpoint], { start, position }: CopySettings): void {
  const fail = (name: string, problem: string) => {
    discard(source, destination);
    throw invalidValue(name, problem);
  };
  // Of one that is unavailable nobody knows; that fails the copy anyway.
  const isFile = (end: Endpoint) =>
    end.kind === 'unavailable' || (end.kind === 'descriptor' && end.end.kind === 'file');
  if (start !== undefined && !isFile(source)) fail('options.start', 'needs a source that is a regular file');
  if (position === undefined) return;
  if (!isFile(destination)) fail('options.position', 'needs a destination that is a regular file');
  if (destination.kind === 'descriptor' && destination.end.appends) {
    fail('options.position', 'means nothing for a destination opened with O_APPEND');
  }
}
