// The open descriptors of this process, read from /proc, and the descriptor behind a Node socket.
import { readdirSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';

/** The open descriptors of this process and the target of each: `socket:[123]`, `pipe:[4]`, `/path`. */
export function openDescriptors(): Map<number, string> {
  const open = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      open.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The descriptor that listed the directory is already closed.
    }
  }
  return open;
}

/** The number of open descriptors of each kind. */
export function descriptorKinds(): Map<string, number> {
  const kinds = new Map<string, number>();
  for (const target of openDescriptors().values()) {
    const kind = target.replace(/:\[\d+\]$/, '');
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return kinds;
}

/** The descriptor that a function opens. */
export async function opened(open: () => Promise<void>): Promise<number> {
  const before = openDescriptors();
  await open();
  const fresh = [...openDescriptors()].filter(([fd, target]) => before.get(fd) !== target);
  const [only] = fresh;
  if (only === undefined || fresh.length > 1) {
    throw new Error(`expected one new descriptor: ${JSON.stringify(fresh)}`);
  }
  return only[0];
}

/** The descriptor behind a connected socket. Node has no public name for it. */
export function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0) {
    throw new Error('the socket has no descriptor');
  }
  return handle.fd;
}
