// The addon of this platform, or the reason why there is none. Only this file loads it.

import { unavailable } from '../contract/errors.js';
import { type Binding, loadBinding } from './loader.js';

/** The addon, if there is one for this platform; otherwise `reason` says why not. */
export const { binding, reason } = loadBinding();

/** The addon, for callers that cannot work without it. */
export function required(): Binding {
  if (binding !== undefined) return binding;
  throw unavailable(reason ?? '');
}
