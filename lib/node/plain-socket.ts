// Decides which sockets can be moved by descriptor.
import { Socket } from 'node:net';
import type { Side } from '../contract/traffic.js';
import { isNodeSocket, overrides } from './internals.js';

/**
 * Whether this is a socket of Node's own whose bytes, on this side of a transfer, can be moved by descriptor. TLS
 * sockets and objects that only imitate `net.Socket` are not.
 */
export function isPlainSocket(value: unknown, side: Side): value is Socket {
  if (!(value instanceof Socket) || ('encrypted' in value && value.encrypted === true)) return false;
  if (!isNodeSocket(value)) return false;
  if (side !== 'destination' && overrides(value, 'reads')) return false;
  return side === 'source' || !overrides(value, 'writes');
}
