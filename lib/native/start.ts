// Prepares both ends of a transfer on the native engine and starts it when both are ready.
import { setTimeout } from '../contract/clock.js';
import type { NativeEnd } from '../core/core.js';
import type { Openable, Preparable } from '../endpoint/preparable.js';
import type { Task } from '../transfer/transfer.js';

/** Milliseconds before a ready end is watched while the other one is still connecting. Most connects are faster. */
const GUARD_AFTER = 50;

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
      start([first, second]);
    }
  });
}

/** Prepares both ends and calls `start` when they are ready, in this tick if they are. `start` opens them itself. */
export function prepareBoth(task: Task, ends: readonly [Preparable, Preparable], start: () => void): void {
  const [first, second] = ends;
  const ready = () => {
    if (!task.isOver && first.isReady && second.isReady) start();
  };
  // Before anything else: with a signal that has already aborted, no byte moves.
  task.obeySignal();
  for (const end of ends) {
    if (task.isOver) break;
    try {
      end.prepare(ready, (failure) => task.fail(failure), task.idleTimeout);
    } catch (mistake) {
      // Node throws for a response whose headers cannot be sent.
      task.refuse(mistake as Error);
    }
  }
  if (task.isOver || first.isReady === second.isReady) return;
  const guard = () => {
    if (task.isOver || (first.isReady && second.isReady)) return;
    for (const end of ends) {
      if (end.isReady) end.guard?.((failure) => task.fail(failure));
    }
  };
  setTimeout(guard, GUARD_AFTER).unref();
}
