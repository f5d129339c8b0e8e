// Which engine this process runs, and tests that need the native core: on streams they skip themselves, with the reason
// in their title.
import test, { type Implementation } from 'ava';
import { capabilities } from 'fdsplice';

/** Whether this process has the native core. `FDSPLICE_ENGINE=stream` disables it. */
export const isNative = capabilities().native;

/** The engine that `result.engine` reports for a transfer that the core can serve. */
export const engine = isNative ? 'native' : 'stream';

function defineSkipped(title: string, run: Implementation<[]>): void {
  test.skip(`${title} (needs the native core)`, run);
}

/** A serial test that needs the native core. Without the core it is skipped, with the reason in its title. */
export function nativeTest(title: string, run: Implementation<[]>): void {
  if (isNative) test.serial(title, run);
  else defineSkipped(title, run);
}

type Define = (title: string, run: Implementation<[]>) => void;

/** Replaces `test` in specs that need the native core as a whole. */
export const coreTest: Define & { serial: Define } = isNative
  ? test
  : Object.assign((title: string, run: Implementation<[]>) => defineSkipped(title, run), {
      serial: defineSkipped,
    });
