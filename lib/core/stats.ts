// The public `stats()`: the counts of the process, from the core or, without it, from the transfers on streams.

import type { Stats } from '../contract/types.js';
import { binding } from './addon.js';

/** The counts of the transfers of this thread, for platforms without a core that counts for the whole process. */
export const streamCounts = {
  active: 0,
  completed: 0,
  failed: 0,
  tx: 0,
  rx: 0,
  begin() {
    this.active += 1;
    return {
      moved: (tx: number, rx: number) => {
        this.tx += tx;
        this.rx += rx;
      },
      end: (failed: boolean) => {
        this.active -= 1;
        if (failed) this.failed += 1;
        else this.completed += 1;
      },
    };
  },
};

/** Calls of this thread on the threads that Node has for files, which have not returned although their transfers ended. */
export const nodeCalls = { stuck: 0 };

/** Live counts of the whole process, all threads together; without the core, of this thread. */
export function stats(): Stats {
  const core = binding();
  const { active, completed, failed, tx, rx, zeroCopy, pipes, held, threads } =
    core === undefined ? countsOfStreams() : countsOfCore(core);
  return { active, completed, failed, tx, rx, total: tx + rx, zeroCopy, pipes, held, threads };
}

function countsOfStreams() {
  return {
    ...streamCounts,
    zeroCopy: 0,
    pipes: { leased: 0, idle: 0, created: 0 },
    held: { bytes: 0, limit: 0 },
    threads: { running: 0, stuck: nodeCalls.stuck, awaited: 0 },
  };
}

function countsOfCore(core: NonNullable<ReturnType<typeof binding>>) {
  const { pipesLeased, pipesIdle, pipesCreated, heldBytes, heldLimit, ...others } = core.stats();
  const { threads, threadsStuck, threadsAwaited, ...counts } = others;
  return {
    ...counts,
    pipes: { leased: pipesLeased, idle: pipesIdle, created: pipesCreated },
    held: { bytes: heldBytes, limit: heldLimit },
    threads: { running: threads, stuck: threadsStuck + nodeCalls.stuck, awaited: threadsAwaited },
  };
}
