// Connects, names and resets sockets, with the same options for every socket of the command line.
import { connect, type Socket } from 'node:net';
import { type AddressSpec, formatHostPort } from '../contract/address-text.js';

/** Keepalive options: a peer that has vanished is detected after minutes, not hours. */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 60_000 };

/** Starts a connection. The caller waits for `'connect'`. */
export function dial(target: AddressSpec): Socket {
  return connect({
    ...(target.kind === 'unix' ? { path: target.path } : { host: target.host, port: target.port }),
    ...KEEP_ALIVE,
    allowHalfOpen: true,
  });
}

/** The address of a TCP socket. The IPv4 peers of a dual-stack listener have IPv4-mapped addresses. */
export function nameSocket({ address, port }: { address: string; port: number }): string {
  return formatHostPort(address.replace(/^::ffff:(?=\d+\.)/i, ''), port);
}

/** Resets a TCP connection, so that its peer cannot take it for complete; a Unix socket is only closed. */
export function reset(socket: Socket, { kind }: AddressSpec): void {
  if (kind === 'tcp') {
    socket.resetAndDestroy();
  } else {
    socket.destroy();
  }
}
