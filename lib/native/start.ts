// Prepares both ends of a transfer on the native engine and starts it when both are ready.
import { setTimeout } from '../contract/clock.js';
import type { NativeEnd } from '../core/core.js';
import type { Openable, Preparable } from '../endpoint/preparable.js';
import type { Task } from '../transfer/transfer.js';

/** Milliseconds before a ready end is watched while the other one is still connecting. Most connects are faster. */
export const GUARD_AFTER = 50;

/** Prepares both ends, opens them and calls `start`, all in this tick if both are ready. */
export function startWhenReady(
  task: Task,
  ends: readonly [Openable, Openable],
  start: (opened: [NativeEnd, NativeEnd]) => void,
): void {
  prepareBoth(task, ends, () => {
    const first = ends[0].open();
    const second = 'code' in first ? first : ends[1].open();
    if ('code' in first) {
      task.fail(first);
    } else if ('code' in second) {
      first.release();
      task.fail(second);
    } else {
      try {
        start([first, second]);
      } catch (error) {
        close(first, second);
        throw error;
      }
    }
  });
}

/** Closes opened ends that the core has not taken. */
export function close(...ends: (NativeEnd | number)[]): void {
  for (const end of ends) if (typeof end !== 'number') end.release();
}

/** Prepares both ends and calls `start` when they are ready, in this tick if they are. `start` opens them itself. */
export function prepareBoth(task: Task, ends: readonly [Preparable, Preparable], start: () => void): void {
  const [first, second] = ends;
  let isSecondDue = second.isLast === true;
  const ready = () => {
    if (task.isOver || !first.isReady) return;
    if (isSecondDue) {
      isSecondDue = false;
      task.attempt(() => prepare(second));
    } else if (second.isReady) task.attempt(start);
  };
  const prepare = (end: Preparable) => end.prepare(ready, (failure) => task.fail(failure), task.idleTimeout);
  // Before anything else: with a signal that has already aborted, no byte moves.
  task.obeySignal();
  for (const end of ends) {
    if (task.isOver) break;
    if (end === first || end.isLast !== true) prepare(end);
  }
  if (task.isOver || first.isReady === second.isReady) return;
  const guard = () => {
    if (task.isOver || (first.isReady && second.isReady)) return;
    for (const end of ends) {
      if (end.isReady) end.guard?.((failure) => task.fail(failure));
    }
  };
  setTimeout(() => task.attempt(guard), GUARD_AFTER).unref();
}
