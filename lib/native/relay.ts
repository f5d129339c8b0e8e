// Relays between two descriptors on the native engine.
import type { EndRole } from '../binding.js';
import { nextTick } from '../contract/clock.js';
import { type Failure, invalidState, nodeError } from '../contract/errors.js';
import type { RelaySettings } from '../contract/options.js';
import { inCore } from '../contract/rate-limiter.js';
import { type NativeEnd, type NativeTransfer, startNative } from '../core/core.js';
import type { NativeEndpoint } from '../endpoint/endpoint.js';
import { takeDownPipes } from '../endpoint/pipes.js';
import type { Task } from '../transfer/transfer.js';
import { SocketEnd } from './socket-end.js';
import { close, prepareBoth } from './start.js';

/** Relays as `settings` say. */
export function relayNatively(
  task: Task,
  [a, b]: readonly [NativeEndpoint, NativeEndpoint],
  settings: RelaySettings,
): void {
  const { moveOptions } = settings;
  const headOfA = copyOf(settings.headFromA);
  const headOfB = copyOf(settings.headFromB);
  const [both, tx, rx] = settings.limits;
  const endOfA = new SocketEnd(a);
  const endOfB = new SocketEnd(b);
  const ends = [endOfA, endOfB] as const;
  const emits = { a: emittedErrors(a), b: emittedErrors(b) };
  let running: NativeTransfer | undefined;
  task.release = (ending) =>
    new Promise((resolve, reject) => {
      let open = 2;
      const closed = (error?: Error) => {
        open -= 1;
        if (error !== undefined) reject(error);
        else if (open === 0) resolve();
      };
      const { failure, outcome } = ending;
      // The core resets a socket that it was given. One that it never got is reset here, and so are both of a relay
      // whose task has died.
      const reset = failure !== undefined && (outcome === undefined || outcome.error?.reason === 'died');
      const error = (side: 'a' | 'b') =>
        settings.emitsErrors === true && failure?.side === side ? emits[side](failure) : undefined;
      endOfA.destroy({ ended: outcome?.aEnded ?? false, reset, error: error('a') }, closed);
      endOfB.destroy({ ended: outcome?.bEnded ?? false, reset, error: error('b') }, closed);
    });
  const isPiped = takeDownPipes(a, b);
  for (const end of ends) {
    end.takeOver();
    end.reads?.refuse();
    end.writes?.report((call) => {
      if (call === 'write') task.fail(invalidState(end.side));
      else if (call === 'destroy') task.fail(end.loss);
      else if (running === undefined) end.isEndDue = true;
      else if (!task.isOver) running.end(end.side);
    });
    if (!isPiped) end.writes?.refuse();
    // Its listeners may have destroyed an end.
    if (task.isOver) return;
  }
  const prepare = () => {
    if (isPiped && !task.isOver) for (const end of ends) end.writes?.refuse();
    prepareBoth(task, ends, start);
  };
  const start = () => {
    const openA = endOfA.lend();
    const openB = isFailure(openA) ? openA : endOfB.lend();
    if (isFailure(openA) || isFailure(openB)) {
      if (!isFailure(openA) && typeof openA !== 'number') openA.release();
      task.fail(isFailure(openA) ? openA : (openB as Failure));
      return;
    }
    const [roleOfA, roleOfB] = [role(endOfA, headOfA), role(endOfB, headOfB)];
    const counts = () => task.traffic;
    const idleMs = () => task.idleMs;
    // Node has already counted the bytes that it had read itself.
    const readFromA = roleOfA?.head?.length ?? 0;
    const readFromB = roleOfB?.head?.length ?? 0;
    endOfA.account(() => ({ read: Math.max(0, counts().tx - readFromA), written: counts().rx }), idleMs);
    endOfB.account(() => ({ read: Math.max(0, counts().rx - readFromB), written: counts().tx }), idleMs);
    const isDefault = moveOptions.zeroCopy && Object.keys(moveOptions).length === 1;
    try {
      task.run((settled) => {
        running = startNative(
          (core, id) =>
            core.relay(
              id,
              openA,
              openB,
              roleOfA,
              roleOfB,
              isDefault ? undefined : moveOptions,
              inCore(both),
              inCore(tx),
              inCore(rx),
            ),
          settled,
        );
        for (const { isEndDue, side } of ends) if (isEndDue) running.end(side);
        return running;
      });
    } catch (error) {
      close(openA, openB);
      throw error;
    }
  };
  if (isPiped) nextTick(() => task.attempt(prepare));
  else prepare();
}

function isFailure(opened: NativeEnd | number | Failure): opened is Failure {
  return typeof opened !== 'number' && 'code' in opened;
}

/** The role of an end; `undefined` for the core's default: handed over, open for writing, nothing read from it yet. */
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

/**
 * Makes the error that a socket emits for a failure. Node ends a socket without `allowHalfOpen` at the end of its input, and
 * reports no error that comes later.
 */
function emittedErrors(end: NativeEndpoint): (failure: Failure) => Error | undefined {
  // Read now: the relay changes the property.
  const isHalfOpen = end.kind !== 'socket' || end.socket.allowHalfOpen;
  return (failure) => (failure.afterEnd === true && !isHalfOpen ? undefined : nodeError(failure));
}
