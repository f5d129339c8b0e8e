import { discard, type Endpoint, requireDistinct } from '../endpoint/endpoint.js';
import type { Openable, Preparable } from '../endpoint/preparable.js';
import type { NativeEnd } from '../core/core.js';
import type { Task } from '../transfer/transfer.js';

/** Checks both ends; what throws is the caller's mistake, and nothing has been taken over then. */
export function checkEnds(one: () => Endpoint, other: () => Endpoint): [Endpoint, Endpoint] {
  const first = one();
  let second: Endpoint;
  try {
    second = other();
  } catch (mistake) {
    discard(first);
    throw mistake;
  }
  requireDistinct(first, second);
  return [first, second];
}

/** Milliseconds before a ready end is watched while the other one is still connecting. */
const GUARD_AFTER = 50;

/** Takes both ends over and starts the task when both are ready, in the same tick if they are. */
export function startWhenReady(
  task: Task,
  ends: readonly [Openable, Openable],
  start: (opened: [NativeEnd, NativeEnd]) => void,
): void {
  prepareBoth(task, ends, () => {
    const one = ends[0].open();
    const other = 'code' in one ? one : ends[1].open();
    if ('code' in one) {
      task.fail(one);
    } else if ('code' in other) {
      one.release();
      task.fail(other);
    } else {
      start([one, other]);
    }
  });
}

/** The same, with what is open already as `open` gives it. */
export function prepareBoth(task: Task, ends: readonly [Preparable, Preparable], start: () => void): void {
  const [first, second] = ends;
  const ready = () => {
    if (!task.isOver && first.isReady && second.isReady) start();
  };
  // First: with a signal that has already aborted, not one byte moves.
  task.obeySignal();
  for (const end of ends) {
    if (task.isOver) break;
    try {
      end.prepare(ready, (failure) => task.fail(failure), task.idleTimeout);
    } catch (mistake) {
      // Node's, of a response whose headers cannot be sent.
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
  // Most connections are there before it pays to watch.
  setTimeout(guard, GUARD_AFTER).unref();
}
