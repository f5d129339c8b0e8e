import type { ExecutionContext } from 'ava';
import { TransferError, type Transfer } from 'fdsplice';

import { within } from './wait.js';

/** Ample for a machine that is ten times slower than it was a minute ago, and far below any timeout of TCP. */
export const PROMPT_MS = 20_000;

/** The failure of a transfer, which has to come promptly. */
export async function failure(t: ExecutionContext, transfer: Transfer): Promise<TransferError> {
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
