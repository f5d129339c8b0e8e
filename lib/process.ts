import { release } from 'node:os';
import { binding, platform, reason } from './native.js';
import type { Capabilities, Stats } from './types.js';

/** What this platform offers. Never throws. */
export function capabilities(): Capabilities {
  const native = binding !== undefined;
  return {
    native,
    ...(reason === undefined ? {} : { reason }),
    platform,
    kernel: release(),
    splice: native,
    sendfile: native,
    copyFileRange: native,
    pipeMaxSize: binding?.capabilities().pipeMaxSize ?? 0,
  };
}

/** Counts of the whole process, all threads together, live. */
export function stats(): Stats {
  const counts = binding?.stats();
  const { active = 0, completed = 0, failed = 0, tx = 0, rx = 0, zeroCopy = 0 } = counts ?? {};
  const { pipesLeased: leased = 0, pipesIdle: idle = 0, pipesCreated: created = 0 } = counts ?? {};
  return { active, completed, failed, tx, rx, total: tx + rx, zeroCopy, pipes: { leased, idle, created } };
}
