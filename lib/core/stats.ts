import { release } from 'node:os';
import { platform } from './loader.js';
import { binding, reason } from './core.js';
import type { Capabilities, Stats } from '../contract/types.js';

/** What this platform offers. Never throws. */
export function capabilities(): Capabilities {
  const core = binding();
  const native = core !== undefined;
  const why = reason();
  return {
    native,
    ...(why === undefined ? {} : { reason: why }),
    platform,
    kernel: release(),
    splice: native,
    sendfile: native,
    copyFileRange: native,
    pipeMaxSize: core?.capabilities().pipeMaxSize ?? 0,
  };
}

/** The counts of this thread's transfers, where there is no core to count those of the whole process. */
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

/** Counts of the whole process, all threads together, live; without the core, of this thread. */
export function stats(): Stats {
  const core = binding();
  const { active, completed, failed, tx, rx, zeroCopy, pipes } =
    core === undefined ? ofStreams() : ofCore(core);
  return { active, completed, failed, tx, rx, total: tx + rx, zeroCopy, pipes };
}

function ofStreams() {
  return { ...streamCounts, zeroCopy: 0, pipes: { leased: 0, idle: 0, created: 0 } };
}

function ofCore(core: NonNullable<ReturnType<typeof binding>>) {
  const { pipesLeased: leased, pipesIdle: idle, pipesCreated: created, ...counts } = core.stats();
  return { ...counts, pipes: { leased, idle, created } };
}
