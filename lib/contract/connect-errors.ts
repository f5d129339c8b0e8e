// The failures of connect(), and of transfers whose end is a connection that cannot be used.
import { constants } from 'node:os';
import { describeErrno } from './errno.js';
import { type Failure, internal, TransferError } from './errors.js';
import type { Side } from './traffic.js';

/** Node's own numbers for the errors of getaddrinfo(3). */
const RESOLVER_ERRNO: Readonly<Record<string, number>> = {
  EAI_AGAIN: -3001,
  EAI_FAIL: -3004,
  EAI_MEMORY: -3006,
  ENOTFOUND: -3008,
};

/** A failed call of a connect. Without a `code` it is the one of the error number; without both, the core has failed. */
export function connectFailure(
  target: string,
  {
    code,
    errno,
    syscall = 'connect',
  }: { code?: string | undefined; errno?: number | undefined; syscall?: string | undefined },
): Failure {
  if (errno === undefined && code === undefined) return internal();
  const call = syscall === 'getaddrinfo' ? syscall : 'connect';
  const step = syscall === call ? '' : ` in ${syscall}`;
  const what = `${call} ${call === 'connect' ? 'to' : 'of'} ${target}`;
  const number = errno ?? RESOLVER_ERRNO[code ?? ''];
  const [name, text] = number === undefined ? ['EAI_FAIL', 'unknown error'] : describeErrno(number);
  return {
    message: `${what} failed${step}: ${code ?? name}, ${text}`,
    code: code ?? name,
    errno: number,
    syscall: call,
  };
}

/** The connection did not stand in time. */
export function connectTimedOut(target: string): Failure {
  return connectFailure(target, { errno: -constants.errno.ETIMEDOUT });
}

/** The error of a connect, which has no side and has moved nothing. */
export function connectError(failure: Failure): TransferError {
  return new TransferError(failure.message, { ...failure, traffic: { tx: 0, rx: 0, total: 0 } });
}

/** A connection that another transfer uses, or that a relay has taken over. */
export function connectionInUse(side: Side, isTaken: boolean): Failure {
  const reason = isTaken ? 'was given to a relay' : 'is used by another transfer';
  return { message: `the connection ${reason}`, code: 'ERR_INVALID_STATE', side };
}
