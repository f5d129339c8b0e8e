// Reads the send queue of a TCP connection from the kernel's table of connections (/proc/net/tcp, proc_net(5)).
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';

/** The row of one connection in the kernel's table. */
export interface TcpRow {
  /** Path of the table. */
  table: string;
  localPort: number;
  remotePort: number;
}

/** The row of a socket; `undefined` if it is not a connected TCP socket. */
export function tcpRowOf({ localFamily, localPort, remotePort }: Socket): TcpRow | undefined {
  return localPort === undefined || remotePort === undefined
    ? undefined
    : { table: localFamily === 'IPv6' ? '/proc/net/tcp6' : '/proc/net/tcp', localPort, remotePort };
}

/**
 * Bytes that the kernel has accepted for a connection and that its peer has not acknowledged. Also 0 if the connection is
 * gone or the system has no such table.
 */
export async function unacknowledged({ table, localPort, remotePort }: TcpRow): Promise<number> {
  const rows = await readFile(table, 'utf8').catch(() => '');
  const [local, remote] = [localPort, remotePort].map(
    (port) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`,
  );
  let bytes = 0;
  for (const row of rows.split('\n').slice(1)) {
    const [, localAddress = '', remoteAddress = '', , queues = ''] = row.trim().split(/\s+/);
    // Addresses are not compared: two connections with the same pair of ports are counted together.
    if (localAddress.endsWith(local ?? '') && remoteAddress.endsWith(remote ?? '')) {
      bytes += parseInt(queues, 16) || 0;
    }
  }
  return bytes;
}
