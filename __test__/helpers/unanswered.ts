import { once } from 'node:events';
import net from 'node:net';

import type { ExecutionContext } from 'ava';

import type { Peer } from './peer.js';

/** A socket that stays connecting: the listener's queue is full, so that the kernel does not answer. */
export async function unanswered(t: ExecutionContext, peer: Peer): Promise<net.Socket> {
  const { port } = await peer.listen({ port: 0, backlog: 0 });
  const queued = net.connect(port, '127.0.0.1').on('error', () => {});
  await once(queued, 'connect');
  const socket = net.connect(port, '127.0.0.1');
  t.teardown(() => {
    queued.destroy();
    socket.destroy();
  });
  return socket;
}
