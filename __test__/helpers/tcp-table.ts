// The TCP sockets of this machine, read from /proc/net/tcp: states, timers and queues that Node does not report.
import { readFile } from 'node:fs/promises';

export interface TcpSocket {
  localPort: number;
  remotePort: number;
  state: 'established' | 'listening' | 'other';
  keepAliveTimer: boolean;
}

/** Every IPv4 TCP socket of this machine. */
export async function tcpSockets(): Promise<TcpSocket[]> {
  const [, ...rows] = (await readFile('/proc/net/tcp', 'utf8')).trim().split('\n');
  return rows.map((row) => {
    const [, local, remote, state, , timer] = row.trim().split(/\s+/);
    return {
      localPort: port(local),
      remotePort: port(remote),
      state: state === '01' ? 'established' : state === '0A' ? 'listening' : 'other',
      keepAliveTimer: timer?.startsWith('02:') === true,
    };
  });
}

function port(address = ''): number {
  return parseInt(address.slice(address.indexOf(':') + 1), 16);
}

/** The queues of one side of an IPv4 connection: bytes not yet acknowledged, and bytes not yet read. */
export async function queuesOf(
  localPort: number,
  remotePort: number,
): Promise<{ unacknowledged: number; unread: number }> {
  const rows = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((row) => row.trim().split(/\s+/));
  const row = rows.find(([, local, remote]) => port(local) === localPort && port(remote) === remotePort);
  const [unacknowledged = 0, unread = 0] = (row?.[4] ?? '').split(':').map((bytes) => parseInt(bytes, 16));
  return { unacknowledged, unread };
}
