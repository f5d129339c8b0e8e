// Decides which sockets can be moved by descriptor, and which descriptor an object has that is not one of those sockets.
import { Server, Socket } from 'node:net';
import type { Side } from '../contract/traffic.js';
import { descriptorOf, hasNodesHandle, isNodeSocket, overrides } from './internals.js';

/**
 * Whether this is a socket of Node's own whose bytes, on this side of a transfer, can be moved by descriptor. TLS
 * sockets and objects that only imitate `net.Socket` are not. A socket is not either where it or its class replaced a
 * method that the bytes would bypass. A method replaced in `net.Socket` itself, for all sockets, does not count.
 */
export function isPlainSocket(value: unknown, side: Side): value is Socket {
  if (!(value instanceof Socket) || ('encrypted' in value && value.encrypted === true)) return false;
  if (!isNodeSocket(value)) return false;
  if (side !== 'destination' && overrides(value, 'reads')) return false;
  return side === 'source' || !overrides(value, 'writes');
}

/** Whether a server accepted this socket, which then has a connection of its own. Without it, more is compared. */
export function isAccepted(stream: object): boolean {
  return (stream as { server?: unknown }).server instanceof Server;
}

/** The descriptor of a socket, of a Proxy around one, or below TLS; `undefined` for everything else. */
export function descriptorBelow(stream: object): number | undefined {
  if (!(stream instanceof Socket)) return undefined;
  return hasNodesHandle(stream) ? descriptorOf(stream) : undefined;
}
