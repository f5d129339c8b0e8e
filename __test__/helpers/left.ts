// What a transfer must not leave behind.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';

import type { ExecutionContext, TestFn } from 'ava';
import { copy, stats } from 'fdsplice';

import { descriptorKinds } from './descriptors.js';
import { isNative } from './engine.js';
import { until } from './wait.js';

/** Open descriptors by kind; pipes that are kept for the next transfer are no leak. */
export function held(): Record<string, number> {
  const kinds = descriptorKinds();
  const { leased, idle } = stats().pipes;
  kinds.set('pipe', (kinds.get('pipe') ?? 0) - 2 * (leased + idle));
  return Object.fromEntries([...kinds].sort());
}

/** The first transfer starts what stays: threads, and their descriptors. */
async function startThreads(): Promise<void> {
  if (!isNative) return;
  const nothing = openSync('/dev/null', 'r+');
  await copy(nothing, nothing);
  closeSync(nothing);
}

/** What is open once the test before has let go of everything. */
async function settled(): Promise<Record<string, number>> {
  let since = performance.now();
  let last = '';
  await until(
    'nothing is opened or closed any more',
    () => JSON.stringify([held(), stats().pipes]),
    (now) => {
      if (now !== last) since = performance.now();
      last = now;
      return performance.now() - since > 200;
    },
  );
  return held();
}

/**
 * Runs `work`, and fails when it leaves a descriptor, a pipe on loan or a running transfer. Nothing else may run in this
 * process meanwhile.
 */
export async function leavesNothing(t: ExecutionContext, work: () => Promise<void>): Promise<void> {
  await startThreads();
  const before = await settled();
  await work();
  await isAsBefore(t, before);
}

/**
 * Every test of a file of serial tests, or all of one whose tests run at once, must leave no descriptor, no pipe on loan
 * and no running transfer. What a test tears down counts as its own to close.
 */
export function nothingIsLeft(test: TestFn, when: 'behind each test' | 'behind all tests'): void {
  let before: Record<string, number> = {};
  test.before('what is open before the first test', async () => {
    // Node opens what tells it of its children with the first of them, and keeps it.
    await once(spawn('true'), 'close');
    await startThreads();
    before = await settled();
  });
  const hook = when === 'behind each test' ? test.afterEach : test.after;
  hook(`nothing is left ${when}`, (t) => isAsBefore(t, before));
}

async function isAsBefore(t: ExecutionContext, before: Record<string, number>): Promise<void> {
  const shown = () => JSON.stringify({ held: held(), active: stats().active, leased: stats().pipes.leased });
  const wanted = JSON.stringify({ held: before, active: 0, leased: 0 });
  t.is(await until(`as much is open as before: ${wanted}`, shown, (now) => now === wanted), wanted);
}
