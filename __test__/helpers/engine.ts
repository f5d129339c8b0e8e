import test, { type Implementation } from 'ava';
import { capabilities } from 'fdsplice';

/** Whether the native core runs in this process; `FDSPLICE_ENGINE=stream` does without it. */
export const isNative = capabilities().native;

/** The engine that serves what the core can serve. */
export const engine = isNative ? 'native' : 'stream';

function leftOut(title: string, run: Implementation<[]>): void {
  test.skip(`${title} (needs the native core)`, run);
}

/** A test, by itself in its file, of what the core alone does; a run without it says that it is left out. */
export function nativeTest(title: string, run: Implementation<[]>): void {
  if (isNative) test.serial(title, run);
  else leftOut(title, run);
}

type Define = (title: string, run: Implementation<[]>) => void;

/** In files that are about the core: what `test` is there. */
export const coreTest: Define & { serial: Define } = isNative
  ? test
  : Object.assign((title: string, run: Implementation<[]>) => leftOut(title, run), { serial: leftOut });
