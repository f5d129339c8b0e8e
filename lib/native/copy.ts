// Copies from one descriptor to another on the native engine.
import type { Failure } from '../contract/errors.js';
import type { CopySettings } from '../contract/options.js';
import { inCore } from '../contract/rate-limiter.js';
import { startNative } from '../core/core.js';
import type { Openable } from '../endpoint/preparable.js';
import type { Moved } from '../node/byte-counters.js';
import type { HeldReads } from '../node/held-reads.js';
import type { Task } from '../transfer/transfer.js';
import { startWhenReady } from './start.js';

/** The source of a copy: a descriptor or socket, or a file that is opened by its path. */
export interface CopySource extends Openable {
  /** Whether bytes that were read and not delivered can go back to it. */
  readonly takesBack: boolean;
  readonly reads: HeldReads | undefined;
  takeOver(): void;
  account(moved: () => Moved, idleMs: () => number): void;
  breakOff(): void;
  giveBack(unread: Uint8Array): void;
  /** Closes what the transfer has opened; resolves when it is closed. */
  close?(): Promise<void>;
}

/**
 * The destination of a copy: a descriptor or socket, a file that is opened by its path, or a response whose body goes into
 * its socket.
 */
export interface CopyDestination extends Openable {
  /** Whether it is the number of a descriptor, or a connection, which only the core can end. */
  readonly isNumber: boolean;
  /** Whether its peer knows how many bytes to expect. */
  readonly isFramed: boolean;
  /** Keeps Node from reading or writing a socket. */
  takeOver(): void;
  /** Holds the writes of others until {@link hold}. */
  queue(): void;
  /**
   * Lets the transfer alone write from here on. `written` counts its bytes, and `idleMs` is the time since the last of
   * them.
   */
  hold(written: () => number, idleMs: () => number): void;
  giveBack(): void;
  /** Closes what the transfer has opened; resolves when it is closed. */
  close?(): Promise<void>;
  /**
   * Destroys a socket that the core has broken off, because a call holds it that has not returned; breaks off a response
   * whose headers are out.
   */
  breakOff(): void;
  /** Ends the destination; resolves with a failure if that was not possible. */
  end(): Promise<Failure | undefined> | void;
}

/** Copies as `settings` say. */
export function copyNatively(
  task: Task,
  [from, to]: readonly [CopySource, CopyDestination],
  settings: CopySettings,
): void {
  const { moveOptions, limit, endDestination, start, length, position } = settings;
  const head = settings.head === undefined ? new Uint8Array() : Uint8Array.from(settings.head);
  /** Bytes that were taken from Node's buffer, until the core has them. */
  let taken: Buffer = Buffer.alloc(0);
  task.release = async ({ failure, outcome }) => {
    const left = outcome?.error?.undelivered ?? Buffer.alloc(0);
    // Bytes of the head did not come from the source, so they do not go back to it.
    const unread = outcome === undefined ? taken : left.subarray(Math.max(0, head.length - outcome.tx));
    if (unread.length > 0 && !from.takesBack && failure !== undefined) failure.undelivered = unread;
    if (outcome?.error?.stuck === true) for (const end of [from, to]) end.breakOff();
    // The client of a response that was to be ended must see that the body is incomplete.
    if (failure !== undefined && endDestination && to.isFramed) to.breakOff();
    try {
      from.giveBack(unread);
    } finally {
      to.giveBack();
    }
    await from.close?.();
    await to.close?.();
    // Without an outcome nothing was copied: the path of an end was refused.
    return endDestination && failure === undefined && outcome !== undefined ? to.end() : undefined;
  };
  from.takeOver();
  to.takeOver();
  to.queue();
  startWhenReady(task, [from, to], ([source, destination]) => {
    taken = from.reads?.takeUnread(length) ?? taken;
    const unreadByNode = taken.length;
    const options = {
      ...(start === undefined ? {} : { start }),
      ...(position === undefined ? {} : { position }),
      head: Buffer.concat([head, taken]),
      endDestination: endDestination && to.isNumber,
      isFramed: to.isFramed,
      ...(length === undefined ? {} : { length: length - taken.length }),
    };
    const written = () => task.traffic.tx;
    const idleMs = () => task.idleMs;
    // Node has already counted the bytes that it had read itself.
    const read = () => Math.max(0, written() - head.length - unreadByNode);
    from.account(() => ({ read: read(), written: 0 }), idleMs);
    to.hold(written, idleMs);
    task.run((settled) =>
      startNative(
        (core, id) => core.copy(id, source, destination, options, moveOptions, inCore(limit)),
        settled,
      ),
    );
  });
}
