// Connects and resets sockets, with the same options for every socket of the command line.
import { connect, type Socket } from 'node:net';
import type { Address } from './address.js';

/** Keepalive options: a peer that has vanished is detected after minutes, not hours. */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 60_000 };

/** Starts a connection. The caller waits for `'connect'`. */
export function dial(target: Address): Socket {
  return connect({
    ...(target.kind === 'unix' ? { path: target.path } : { host: target.host, port: target.port }),
    ...KEEP_ALIVE,
    allowHalfOpen: true,
  });
}

/** Resets a TCP connection, so that its peer cannot take it for complete; a Unix socket is only closed. */
export function reset(socket: Socket, { kind }: Address): void {
  if (kind === 'tcp') {
    socket.resetAndDestroy();
  } else {
    socket.destroy();
  }
}
