// Listens on an address, and replaces a stale Unix socket.
import { once } from 'node:events';
import { lstat, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { type AddressSpec, formatAddress } from '../contract/address-text.js';
import { nameSocket } from './sockets.js';
import { codeOf } from './text.js';

/** Starts listening and resolves with the bound address. A Unix socket file on which no process listens is replaced. */
export async function listen(server: Server, address: AddressSpec): Promise<string> {
  await replaceStale(address, () => start(server, address));
  const bound = server.address();
  return bound !== null && typeof bound === 'object' ? nameSocket(bound) : formatAddress(address);
}

/** Calls `start`, which listens on `address`, and again after it has removed a Unix socket file that is in the way. */
export async function replaceStale<T>(address: AddressSpec, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    const replaceable = address.kind === 'unix' && codeOf(error) === 'EADDRINUSE';
    if (!replaceable || !(await isStaleSocket(address.path))) {
      throw error;
    }
    await unlink(address.path);
    return await start();
  }
}

async function start(server: Server, address: AddressSpec): Promise<void> {
  server.listen(
    address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
  );
  await once(server, 'listening');
}

/** Whether a path is a Unix socket on which no process listens. */
async function isStaleSocket(path: string): Promise<boolean> {
  // A connect to a file of another kind is refused too, and such a file must not be replaced.
  const file = await lstat(path);
  if (!file.isSocket()) {
    return false;
  }
  const probe = connect(path);
  try {
    await once(probe, 'connect');
    return false;
  } catch (error) {
    return codeOf(error) === 'ECONNREFUSED';
  } finally {
    probe.destroy();
  }
}
