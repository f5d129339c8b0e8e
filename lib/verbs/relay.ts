import type { EndRole } from '../binding.js';
import { areNative, endpoint } from '../endpoint/endpoint.js';
import { type Failure, invalidState } from '../contract/errors.js';
import { type NativeEnd, start } from '../core/core.js';
import { relaySettings } from '../contract/options.js';
import { checkEnds, prepareBoth } from '../native/start.js';
import { SocketEnd } from '../native/socket-end.js';
import { inCore } from '../contract/rate-limiter.js';
import { relayStreams } from '../stream/start.js';
import { refused, Task } from '../transfer/transfer.js';
import type { RelayEnd, RelayOptions, Transfer } from '../contract/types.js';

/**
 * Relays bytes between `a` and `b` in both directions at once until both have ended.
 *
 * Sockets belong to the relay from the call on: it awaits their connection, delivers what Node had
 * buffered in them first and in order, and destroys both at the end. Numbers stay the caller's.
 *
 * The end of input on one side drains what is in flight and then ends the other side for writing;
 * the opposite direction goes on. Every other ending (error, abort, a socket destroyed from
 * JavaScript) is passed on to both sockets as a reset, so that a truncated stream never looks
 * complete; Unix sockets have no reset, their peers see the end and only the result tells.
 *
 * Rejects with a {@link TransferError} that carries the counts, unless `reject` is `false`; with a
 * `TypeError`, `RangeError` or an `EBADF` `Error` for a mistake in the arguments, before a byte has
 * moved and with nothing taken over.
 */
export function relay(a: RelayEnd, b: RelayEnd, options?: RelayOptions): Transfer {
  let settings, checked;
  try {
    settings = relaySettings(options);
    checked = checkEnds(
      () => endpoint('a', a),
      () => endpoint('b', b),
    );
  } catch (mistake) {
    return refused(mistake as Error);
  }
  const task = new Task('relay', settings);
  if (!areNative(checked)) {
    relayStreams(task, checked, settings);
    return task.transfer;
  }
  const { how } = settings;
  const headOfA = copyOf(settings.headFromA);
  const headOfB = copyOf(settings.headFromB);
  const [both, tx, rx] = settings.limits;
  const endOfA = new SocketEnd(checked[0]);
  const endOfB = new SocketEnd(checked[1]);
  const ends = [endOfA, endOfB] as const;
  for (const { writes, side } of ends) writes?.refuse(() => task.fail(invalidState(side)));
  task.release = (ending) =>
    new Promise((resolve) => {
      let open = 2;
      const closed = () => {
        open -= 1;
        if (open === 0) resolve();
      };
      const { failure, outcome } = ending;
      // The core has prepared a reset of what it was given; what it never got is reset here.
      const reset = failure !== undefined && outcome === undefined;
      endOfA.destroy({ ended: outcome?.aEnded ?? false, reset }, closed);
      endOfB.destroy({ ended: outcome?.bEnded ?? false, reset }, closed);
    });
  prepareBoth(task, ends, () => {
    const openA = endOfA.lend();
    const openB = isFailure(openA) ? openA : endOfB.lend();
    if (isFailure(openA) || isFailure(openB)) {
      if (!isFailure(openA) && typeof openA !== 'number') openA.release();
      task.fail(isFailure(openA) ? openA : (openB as Failure));
      return;
    }
    const [roleOfA, roleOfB] = [role(endOfA, headOfA), role(endOfB, headOfB)];
    const counts = () => task.traffic;
    // Node has counted what it had read itself.
    const known = roleOfA?.head?.length ?? 0;
    const knownToo = roleOfB?.head?.length ?? 0;
    endOfA.account(() => ({ read: Math.max(0, counts().tx - known), written: counts().rx }));
    endOfB.account(() => ({ read: Math.max(0, counts().rx - knownToo), written: counts().tx }));
    const isPlain = how.zeroCopy && Object.keys(how).length === 1;
    task.run((settled) =>
      start(
        (core, id) =>
          core.relay(
            id,
            openA,
            openB,
            roleOfA,
            roleOfB,
            isPlain ? undefined : how,
            inCore(both),
            inCore(tx),
            inCore(rx),
          ),
        settled,
      ),
    );
  });
  return task.transfer;
}

function isFailure(opened: NativeEnd | number | Failure): opened is Failure {
  return typeof opened !== 'number' && 'code' in opened;
}

/** Nothing where nothing needs to be said: the core then takes it as a socket that was handed over whole. */
function role({ socket, reads }: SocketEnd, head: Uint8Array | undefined): EndRole | undefined {
  const unread = reads?.takeUnread();
  const isRead = unread !== undefined && unread.length > 0;
  const handedOver = socket !== undefined;
  const writeEnded = socket?.writableEnded ?? false;
  if (handedOver && !writeEnded && !isRead && head === undefined) return undefined;
  const bytes = isRead ? (head === undefined ? unread : Buffer.concat([head, unread])) : head;
  return { handedOver, writeEnded, ...(bytes === undefined ? {} : { head: bytes }) };
}

function copyOf(head: Uint8Array | undefined): Uint8Array | undefined {
  return head === undefined ? undefined : Uint8Array.from(head);
}
