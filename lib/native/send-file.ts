import type { Failure } from '../contract/errors.js';
import type { FileSource } from '../file/file-source.js';
import { PreopenedFile } from '../core/core-file.js';
import { type NativeEnd, type NativeOutcome, startNative } from '../core/core.js';
import type { SendFileSettings } from '../contract/options.js';
import { inCore } from '../contract/rate-limiter.js';
import type { Range } from '../file/range.js';
import type { Task } from '../transfer/transfer.js';

/** A descriptor that is ready to be sent to. */
interface Target {
  /** Sends all that was read of a file, if it takes that without waiting. */
  sendNow(file: PreopenedFile, bytes: number): boolean;
  open(): NativeEnd | Failure;
  hold(written: () => number): void;
}

interface Manner {
  /** Whether the descriptor itself is to be ended. */
  end: boolean;
  /** Whether its peer was told how many bytes there will be. */
  isFramed: boolean;
}

/** Sends the range of a file that is open, at once where its bytes are at hand and the system takes them. */
export function sendNatively(
  task: Task,
  from: FileSource,
  to: Target,
  { length, size }: Range,
  { start, end: last, how, limit }: SendFileSettings,
  { end: endDestination, isFramed }: Manner,
): void {
  const file = from.open();
  if ('code' in file) {
    task.fail(file);
    return;
  }
  if (length !== undefined && file instanceof PreopenedFile && to.sendNow(file, length)) {
    endAlready(task, length);
    return;
  }
  const socket = to.open();
  if ('code' in socket) {
    task.fail(socket);
    return;
  }
  // Of a file that has grown since, not more than was told.
  const end = size === undefined ? last : size - 1;
  const what = {
    ...(start === undefined ? {} : { start }),
    ...(end === undefined ? {} : { end }),
    endDestination,
  };
  to.hold(() => task.traffic.tx);
  task.run((settled) => {
    // The core looks at the file's size again.
    const ended = (outcome: NativeOutcome) => {
      const isShort = isFramed && outcome.error === undefined && outcome.tx < (length ?? 0);
      settled(isShort ? { ...outcome, error: { reason: 'truncated', side: 'source' } } : outcome);
    };
    const opened = file instanceof PreopenedFile ? file.id : file;
    return startNative((core, id) => core.sendFile(id, opened, socket, what, how, inCore(limit)), ended);
  });
}

/** Ends a transfer that has nothing more to move, once its caller has got hold of it. */
export function endAlready(task: Task, tx: number): void {
  task.run((settled) => {
    setImmediate(settled, { tx, rx: 0, zeroCopy: 0, aEnded: true, bEnded: false });
    return { traffic: () => ({ tx, rx: 0 }), abort: () => {} };
  });
}
