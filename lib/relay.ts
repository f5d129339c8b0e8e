import { areNative, endpoint } from './endpoint.js';
import { invalidState } from './errors.js';
import { start } from './native.js';
import { relaySettings } from './options.js';
import { checkEnds, startWhenReady } from './prepare.js';
import { PreparedEnd } from './prepared-end.js';
import { inCore } from './rate-limiter.js';
import { relayStreams } from './stream/verbs.js';
import { type Ending, refused, Task } from './transfer.js';
import type { RelayEnd, RelayOptions, Transfer } from './types.js';

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
  const { headFromA, headFromB, how } = settings;
  const heads = { a: copyOf(headFromA), b: copyOf(headFromB) };
  const [both, tx, rx] = settings.limits.map(inCore);
  const ends = [new PreparedEnd(checked[0]), new PreparedEnd(checked[1])] as const;
  const [endOfA, endOfB] = ends;
  for (const { writes, side } of ends) writes?.refuse(() => task.fail(invalidState(side)));
  task.release = async (ending) => {
    await Promise.all([
      letGo(endOfA, ending, ending.outcome?.aEnded),
      letGo(endOfB, ending, ending.outcome?.bEnded),
    ]);
  };
  startWhenReady(task, ends, ([openA, openB]) => {
    const roles = [role(endOfA, heads.a), role(endOfB, heads.b)] as const;
    const counts = () => task.traffic;
    // Node has counted what it had read itself.
    const [known, knownToo] = roles.map(({ head }) => head?.length ?? 0) as [number, number];
    endOfA.account(() => ({ read: Math.max(0, counts().tx - known), written: counts().rx }));
    endOfB.account(() => ({ read: Math.max(0, counts().rx - knownToo), written: counts().tx }));
    task.run((settled) =>
      start((core, id) => core.relay(id, openA, openB, ...roles, how, both, tx, rx), settled),
    );
  });
  return task.transfer;
}

const NOTHING = Buffer.alloc(0);

function role({ socket, reads }: PreparedEnd, head: Uint8Array[]) {
  const unread = reads?.takeUnread() ?? NOTHING;
  const bytes = head.length === 0 ? unread : Buffer.concat([...head, unread]);
  return {
    handedOver: socket !== undefined,
    writeEnded: socket?.writableEnded ?? false,
    ...(bytes.length > 0 ? { head: bytes } : {}),
  };
}

function copyOf(head: Uint8Array | undefined): Uint8Array[] {
  return head === undefined ? [] : [Uint8Array.from(head)];
}

async function letGo(end: PreparedEnd, { failure, outcome }: Ending, ended = false): Promise<void> {
  // The core has prepared a reset of what it was given; what it never got is reset here.
  await end.destroy({ ended, reset: failure !== undefined && outcome === undefined });
}
