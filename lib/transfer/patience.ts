// How long the end of a transfer waits for a call on a file that has not returned. A file system that stops answering
// (FUSE, NFS) keeps such a call for ever, and nothing can end it.
import { clearTimeout, setTimeout } from '../contract/clock.js';
import { nodeCalls } from '../core/stats.js';

/** Milliseconds. The core has the same limit, in crates/fdsplice/src/file/copy.rs. */
const PATIENCE_MS = 400;

/** Whether a call returns, or has returned, before the patience with it ends. */
export async function returnsSoon(call: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const hangs = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), PATIENCE_MS);
  });
  const returned = () => true;
  const isOver = await Promise.race([call.then(returned, returned), hangs]);
  clearTimeout(timer);
  return isOver;
}

/** Counts a call on the threads that Node has for files as stuck until it returns. */
export function countAsStuck(call: Promise<unknown>): void {
  nodeCalls.stuck += 1;
  const returned = () => {
    nodeCalls.stuck -= 1;
  };
  call.then(returned, returned);
}
