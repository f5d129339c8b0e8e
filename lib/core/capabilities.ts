// The public `capabilities()`: which parts of the core this platform has.

import { release } from 'node:os';
import type { Capabilities } from '../contract/types.js';
import { binding, reason } from './addon.js';
import { platform } from './loader.js';

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
