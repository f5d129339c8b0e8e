import test, { type Implementation } from 'ava';
import { capabilities } from 'fdsplice';

/** Whether the native core runs in this process; `FDSPLICE_ENGINE=stream` does without it. */
export const isNative = capabilities().native;

/** The engine that serves what the core can serve. */
export const engine = isNative ? 'native' : 'stream';

/** A test, by itself in its file, of what the core alone does; a run without it says that it is left out. */
export function nativeTest(title: string, run: Implementation<[]>): void {
  if (isNative) test.serial(title, run);
  else test.skip(`${title} (needs the native core)`, run);
}
