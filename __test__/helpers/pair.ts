// The two sockets that a gateway relays between, with a raw peer at both outer ends: the setting of most specs.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import type { Conn, Peer, Tuning } from './peer.js';

export type Transport = 'tcp' | 'unix';

export interface Pair {
  /** Node's socket towards the client. */
  a: net.Socket;
  /** Node's socket towards the origin. */
  b: net.Socket;
  /** The peer's end of `a`. */
  client: Conn;
  /** The peer's end of `b`. */
  origin: Conn;
}

export interface PairOptions {
  /** Options of Node's server, which creates `a`. */
  server?: net.ServerOpts;
  /** Keeps Node from reading, so that a test can use the descriptors by number. */
  untouched?: boolean;
  /** Socket options of the peer's end of `a`. */
  client?: Tuning;
  /** Socket options of the peer's end of `b`. Buffer sizes are set before the connection is made. */
  origin?: Tuning;
}

/** Returns a function that makes pairs, from a Node server and a listener of the peer. The test's end closes both. */
export async function crossing(
  t: ExecutionContext,
  peer: Peer,
  transport: Transport,
  options: PairOptions = {},
): Promise<() => Promise<Pair>> {
  const server = net.createServer({ pauseOnConnect: options.untouched === true, ...options.server });
  t.teardown(() => void server.close());
  const directory = transport === 'unix' ? await mkdtemp(join(tmpdir(), 'fdsplice-')) : undefined;
  if (directory !== undefined) {
    t.teardown(() => rm(directory, { recursive: true }));
  }
  server.listen(directory === undefined ? { port: 0, host: '127.0.0.1' } : { path: join(directory, 'a') });
  await once(server, 'listening');
  const nodeAddress =
    directory === undefined
      ? { port: (server.address() as AddressInfo).port }
      : { path: join(directory, 'a') };

  const tuning = options.origin ?? {};
  const originPath = directory === undefined ? undefined : join(directory, 'b');
  const { listener, port } = await peer.listen(
    originPath === undefined ? { port: 0, tuning } : { path: originPath, tuning },
  );

  async function meet(): Promise<Pair> {
    const [[a], { conn: client }] = await Promise.all([
      once(server, 'connection') as Promise<[net.Socket]>,
      peer.connect({ ...nodeAddress, tuning: options.client ?? {} }),
    ]);
    const b =
      originPath === undefined ? net.connect({ port, host: '127.0.0.1' }) : net.connect({ path: originPath });
    if (options.untouched === true) {
      b.pause();
    }
    const [{ conn: origin }] = await Promise.all([peer.accept(listener), once(b, 'connect')]);
    return { a, b, client, origin };
  }

  // One after the other, because nothing else matches an accepted socket to its connect.
  let last: Promise<unknown> = Promise.resolve();
  return () => {
    const made = last.then(meet);
    last = made.catch(() => {});
    return made;
  };
}

/** Makes one pair and destroys its sockets at the end of the test. */
export async function pair(
  t: ExecutionContext,
  peer: Peer,
  transport: Transport = 'tcp',
  options: PairOptions = {},
): Promise<Pair> {
  const meet = await crossing(t, peer, transport, options);
  const made = await meet();
  t.teardown(() => {
    made.a.destroy();
    made.b.destroy();
  });
  return made;
}
