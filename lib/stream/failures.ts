import { aborted, type Failure, nodeFailure } from '../contract/errors.js';
import type { Side } from '../contract/types.js';

interface Destroyable {
  errored?: Error | null | undefined;
}

/** What a stream's own error means for a transfer. */
export function streamFailure(side: Side, error: Error): Failure {
  const { code, message } = error as NodeJS.ErrnoException;
  const system = nodeFailure(side, error);
  if (system !== undefined) return system;
  if (typeof code !== 'string' || code === 'ECANCELED') return destroyed(side, { errored: error });
  return { what: message, code, side, cause: error };
}

/** A stream that was closed without having ended. */
export function destroyed(side: Side, { errored }: Destroyable): Failure {
  return { ...aborted(errored ?? null, side), what: 'the stream was destroyed' };
}
