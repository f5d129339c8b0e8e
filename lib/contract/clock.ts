// The timers and the clock of this package, taken when it is loaded. Tests of an application replace the global ones
// (`mock.timers` of Node, sinon, vitest, jest), and a transfer that waited for such a timer would never go on.
import { performance } from 'node:perf_hooks';
import timers from 'node:timers';

const { setTimeout, clearTimeout, setImmediate, clearImmediate, setInterval, clearInterval } = timers;

export { clearImmediate, clearInterval, clearTimeout, setImmediate, setInterval, setTimeout };

/** Milliseconds since the start of the process or worker, from a clock that is never set. */
export const now: () => number = performance.now.bind(performance);

/** Calls a function after the current operation, before the event loop goes on. */
export const nextTick: typeof process.nextTick = process.nextTick.bind(process);
