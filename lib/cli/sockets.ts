import { connect, type Socket } from 'node:net';
import type { Address } from './address.js';

/** For every socket of the command line: a peer that is gone is noticed after minutes, not hours. */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 60_000 };

/** Starts a connection, which its user waits for. */
export function dial(target: Address): Socket {
  return connect({
    ...(target.kind === 'unix' ? { path: target.path } : { host: target.host, port: target.port }),
    ...KEEP_ALIVE,
    allowHalfOpen: true,
  });
}

/** Ends a connection so that its peer cannot take it for complete, where there is a reset. */
export function reset(socket: Socket, { kind }: Address): void {
  if (kind === 'tcp') {
    socket.resetAndDestroy();
  } else {
    socket.destroy();
  }
}
