// The addon of this platform, or the reason why there is none. Only this file loads it.

import { setImmediate } from '../contract/clock.js';
import { unavailable } from '../contract/errors.js';
import { type Binding, loadBinding, platform } from './loader.js';

/** Tries, once per thread, whether Node can serve the addon. `postponed` means that this could not be tried yet. */
export type Probe = (binding: Binding) => 'passed' | 'postponed' | { reason: string };

const loaded = loadBinding();
let { binding: usable, reason: unusable } = loaded;
let probe: Probe | undefined;

/** Sets the probe that runs when the addon is first needed. A floor above sets it, because it depends on Node. */
export function setProbe(check: Probe): void {
  probe = check;
}

/** The addon, if there is one for this platform and this Node; otherwise {@link reason} says why not. */
export function binding(): Binding | undefined {
  if (probe !== undefined && usable !== undefined) runProbe(probe, usable);
  return usable;
}

/** Why there is no addon. */
export function reason(): string | undefined {
  binding();
  return unusable;
}

function runProbe(check: Probe, found: Binding): void {
  probe = undefined;
  const verdict = check(found);
  if (verdict === 'postponed') {
    // Not in this turn of the event loop: all ends of a call must get the same answer.
    setImmediate(() => (probe = check)).unref();
  } else if (verdict !== 'passed') {
    usable = undefined;
    unusable = `no native core for ${platform}: ${verdict.reason}`;
  }
}

/**
 * The addon, for callers that cannot work without it. A transfer that has chosen the core gets it even if a postponed
 * probe fails meanwhile.
 */
export function required(): Binding {
  if (loaded.binding !== undefined) return loaded.binding;
  throw unavailable(loaded.reason);
}
