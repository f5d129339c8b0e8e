// A connect that never completes, for tests of aborts and timeouts before a transfer has moved a byte.
import { once } from 'node:events';
import net from 'node:net';

import type { ExecutionContext } from 'ava';

import type { Peer } from './peer.js';

/** A socket that stays in the connecting state: the queue of its listener is full, so the kernel does not answer. */
export async function unanswered(t: ExecutionContext, peer: Peer): Promise<net.Socket> {
  const socket = net.connect(Number(await unansweredPort(t, peer)), '127.0.0.1');
  t.teardown(() => socket.destroy());
  return socket;
}

/** A port to which no further connection is completed. */
export async function unansweredPort(t: ExecutionContext, peer: Peer): Promise<string> {
  const { port } = await peer.listen({ port: 0, backlog: 0 });
  const queued = net.connect(port, '127.0.0.1').on('error', () => {});
  await once(queued, 'connect');
  t.teardown(() => queued.destroy());
  return String(port);
}
