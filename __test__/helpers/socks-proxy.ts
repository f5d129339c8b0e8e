// A SOCKS5 proxy (RFC 1928) without authentication, for tests of clients.
import net from 'node:net';

import type { ExecutionContext } from 'ava';

import { serve } from './local-peers.js';

/** Starts the proxy and returns its port. It connects to IPv4 addresses. */
export async function socksProxy(t: ExecutionContext): Promise<number> {
  const { port } = await serve(t, (socket) => {
    socket.once('data', () => {
      socket.write(Buffer.from([5, 0]));
      socket.once('data', (request: Buffer) => {
        const target = net.connect({
          host: request.subarray(4, 8).join('.'),
          port: request.readUInt16BE(8),
          allowHalfOpen: true,
        });
        target.once('connect', () => {
          socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
          socket.pipe(target).pipe(socket);
        });
        target.on('error', () => socket.resetAndDestroy());
        socket.on('error', () => target.resetAndDestroy());
      });
    });
  });
  return port;
}
