// Sends the range of a file to a descriptor on the native engine.
import { nextTick } from '../contract/clock.js';
import { type Failure, truncated } from '../contract/errors.js';
import type { FileRange } from '../contract/file-range.js';
import type { SendFileSettings } from '../contract/options.js';
import { inCore } from '../contract/rate-limiter.js';
import { PreopenedFile } from '../core/core-file.js';
import { type NativeEnd, type NativeOutcome, startNative } from '../core/core.js';
import type { Task } from '../transfer/transfer.js';
import { close } from './start.js';

/** A file that is open. */
interface Source {
  open(): NativeEnd | PreopenedFile | Failure;
}

/** A descriptor that is ready to be written to. */
interface Target {
  /** Sends the contents of a small file that were read in advance. Returns false if the socket did not take them all. */
  sendNow(file: PreopenedFile, bytes: number): boolean;
  open(): NativeEnd | Failure;
  hold(written: () => number, idleMs: () => number): void;
}

interface Framing {
  /** Whether the core shuts down the descriptor at the end. */
  endDestination: boolean;
  /** Whether a Content-Length was sent, so that fewer bytes are a failure. */
  isFramed: boolean;
}

/** Sends a range of a file: in this call if its bytes are in memory and the socket takes them, otherwise in the core. */
export function sendNatively(
  task: Task,
  from: Source,
  to: Target,
  { start, last, length }: FileRange,
  { moveOptions, limit }: SendFileSettings,
  { endDestination, isFramed }: Framing,
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
  const options = {
    ...(start === undefined ? {} : { start }),
    ...(last === undefined ? {} : { end: last }),
    endDestination,
    isFramed,
  };
  try {
    to.hold(
      () => task.traffic.tx,
      () => task.idleMs,
    );
    task.run((settled) => {
      // The core checks the size of the file again, and sends fewer bytes if it was truncated.
      const ended = (outcome: NativeOutcome) => {
        const isShort = isFramed && outcome.error === undefined && outcome.tx < (length ?? 0);
        settled(outcome, isShort ? truncated() : undefined);
      };
      const opened = file instanceof PreopenedFile ? file.id : file;
      return startNative(
        (core, id) => core.sendFile(id, opened, socket, options, moveOptions, inCore(limit)),
        ended,
      );
    });
  } catch (error) {
    close(socket);
    throw error;
  }
}

/** Ends a transfer that has nothing more to move, after the call has returned its promise. */
export function endAlready(task: Task, tx: number): void {
  task.run((settled) => {
    nextTick(settled, { tx, rx: 0, zeroCopy: 0, aEnded: true, bEnded: false });
    return { traffic: () => ({ tx, rx: 0 }), abort: () => {} };
  });
}
