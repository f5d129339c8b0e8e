// The public `capabilities()`: which parts of the core this platform has.

import { release } from 'node:os';
import type { Capabilities } from '../contract/types.js';
import { binding, reason } from './addon.js';
import { platform } from './loader.js';

/** The capabilities of this platform. Never throws. */
export function capabilities(): Capabilities {
  const core = binding();
  const native = core !== undefined;
  const whyNot = reason();
  return {
    native,
    ...(whyNot === undefined ? {} : { reason: whyNot }),
    platform,
    kernel: release(),
    splice: native,
    sendfile: native,
    copyFileRange: native,
    pipeMaxSize: core?.capabilities().pipeMaxSize ?? 0,
  };
}
