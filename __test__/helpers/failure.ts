// Awaits the failure of a transfer, within a time that no timeout of TCP can cause.
import type { ExecutionContext } from 'ava';
import { type TrafficResult, TransferError } from 'fdsplice';

import { within } from './wait.js';

/** Enough for a machine that runs ten times slower under load, and far below every timeout of TCP. */
export const PROMPT_MS = 20_000;

/** The error of a transfer, which must fail within `PROMPT_MS`. */
export async function failure(t: ExecutionContext, transfer: Promise<TrafficResult>): Promise<TransferError> {
  const error = await within(
    PROMPT_MS,
    'the transfer fails',
    transfer.then(
      (result) => {
        throw new Error(`the transfer succeeded: ${JSON.stringify(result)}`);
      },
      (error: unknown) => error,
    ),
  );
  t.true(error instanceof TransferError, String(error));
  return error as TransferError;
}
