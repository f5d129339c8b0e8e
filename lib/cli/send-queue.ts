import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';

/** A TCP connection as the kernel's table of them names it. */
export interface Connection {
  table: string;
  localPort: number;
  remotePort: number;
}

/** Undefined for a socket that is not a connected TCP socket. */
export function connectionOf({ localFamily, localPort, remotePort }: Socket): Connection | undefined {
  return localPort === undefined || remotePort === undefined
    ? undefined
    : { table: localFamily === 'IPv6' ? '/proc/net/tcp6' : '/proc/net/tcp', localPort, remotePort };
}

/**
 * Bytes that the kernel has accepted for a connection and that have not been acknowledged by its peer. 0 also where the
 * connection is gone, and where the system has no such table.
 */
export async function unacknowledged({ table, localPort, remotePort }: Connection): Promise<number> {
  const rows = await readFile(table, 'utf8').catch(() => '');
  const [local, remote] = [localPort, remotePort].map(
    (port) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`,
  );
  let bytes = 0;
  for (const row of rows.split('\n').slice(1)) {
    const [, localAddress = '', remoteAddress = '', , queues = ''] = row.trim().split(/\s+/);
    // Addresses aside: two connections that share both ports are waited for together.
    if (localAddress.endsWith(local ?? '') && remoteAddress.endsWith(remote ?? '')) {
      bytes += parseInt(queues, 16) || 0;
    }
  }
  return bytes;
}
