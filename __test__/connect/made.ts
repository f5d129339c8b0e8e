// Connections to the raw peer, which sees exactly how they end.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';

import type { ExecutionContext } from 'ava';
import { connect, type Connection } from 'fdsplice';

import { directory } from '../helpers/local-peers.js';
import type { Conn, Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

export interface Made {
  connection: Connection;
  /** The peer's end of it. */
  far: Conn;
}

/** Makes a connection to the peer. The end of the test resets it. */
export async function made(
  t: ExecutionContext,
  peer: Peer,
  transport: 'tcp' | 'unix' = 'tcp',
): Promise<Made> {
  const path = transport === 'unix' ? `${await directory(t)}/socket` : undefined;
  const { listener, port } = await peer.listen(path === undefined ? { port: 0 } : { path });
  const connection = await connect(path === undefined ? `127.0.0.1:${port}` : { path });
  t.teardown(() => connection.reset());
  const { conn: far } = await peer.accept(listener);
  return { connection, far };
}

/** A socket of Node's that the raw peer has connected to. */
export async function accepted(
  t: ExecutionContext,
  peer: Peer,
): Promise<{ socket: net.Socket; client: Conn }> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const [[socket], { conn: client }] = await Promise.all([
    once(server, 'connection') as Promise<[net.Socket]>,
    peer.connect({ port }),
  ]);
  t.teardown(() => socket.destroy());
  return { socket, client };
}

/** How the peer sees the connection end: `eof`, `reset` or the name of an error. */
export async function endingAt(peer: Peer, conn: Conn): Promise<string> {
  return (await within(20_000, 'the peer sees the end', peer.readToEnd(conn))).end;
}
