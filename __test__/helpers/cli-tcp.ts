import { readFile } from 'node:fs/promises';

export interface TcpSocket {
  localPort: number;
  remotePort: number;
  state: 'established' | 'listening' | 'other';
  keepAliveTimer: boolean;
}

/** Every IPv4 TCP socket of the machine, as the kernel has it. */
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
