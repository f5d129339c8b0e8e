// Asserts that tests leave no descriptor, no leased pipe and no running transfer behind, so that leaks fail the test that
// causes them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';

import type { ExecutionContext, TestFn } from 'ava';
import { copy, stats } from 'fdsplice';

import { descriptorKinds } from './descriptors.js';
import { isNative } from './engine.js';
import { until } from './wait.js';

/** Open descriptors by kind, without the pipes that the pool keeps for later transfers. */
export function held(): Record<string, number> {
  const kinds = descriptorKinds();
  const { leased, idle } = stats().pipes;
  kinds.set('pipe', (kinds.get('pipe') ?? 0) - 2 * (leased + idle));
  return Object.fromEntries([...kinds].sort());
}

/** Runs one transfer, which starts the core's threads. They and their descriptors stay open for good. */
async function startThreads(): Promise<void> {
  if (!isNative) return;
  const nothing = openSync('/dev/null', 'r+');
  await copy(nothing, nothing);
  closeSync(nothing);
}

/** The open descriptors once nothing has been opened or closed for 200 ms. */
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
 * Runs `work` and fails if it leaves a descriptor, a leased pipe or a running transfer. Nothing else may run in this
 * process meanwhile.
 */
export async function leavesNothing(t: ExecutionContext, work: () => Promise<void>): Promise<void> {
  await startThreads();
  const before = await settled();
  await work();
  await isAsBefore(t, before);
}

/**
 * Adds a hook that fails if tests leave a descriptor, a leased pipe or a running transfer: after each test of a spec
 * with serial tests, or once after all tests of a spec whose tests run concurrently. Teardowns run before the hook.
 */
export function nothingIsLeft(test: TestFn, when: 'behind each test' | 'behind all tests'): void {
  let before: Record<string, number> = {};
  test.before('open descriptors are recorded before the first test', async () => {
    // Node opens the descriptor that reports child exits with its first child, and keeps it.
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
