// Programs that relay between two sockets of their own, and the raw peers at the outer ends of these sockets: the setting
// of specs about process exit and worker threads.
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

import type { ExecutionContext } from 'ava';

import { nodeArguments, started } from '../copy-child.js';
import { MiB } from '../copy-files.js';
import { type Conn, Peer } from '../peer.js';
import { within } from '../wait.js';

/** The start of a program or a worker: `meet(ports)` returns two sockets, connected to the two listeners of `outside`. */
export const MEET = `
  import { once } from 'node:events';
  import net from 'node:net';
  import { copy, relay, sendFile, stats, RateLimiter, TransferError } from 'fdsplice';
  const connect = async (port) => {
    // Paused before it connects, so Node reads nothing and the descriptor number is usable.
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }).pause();
    await once(socket, 'connect');
    return socket;
  };
  const meet = async ([first, second]) => [await connect(first), await connect(second)];
`;

/** The peer's ends of the two sockets of a relay. */
export interface OuterPair {
  client: Conn;
  origin: Conn;
}

/** Starts a peer with two listeners. `accept` returns the peer's ends of the next two sockets. */
export async function outside(
  t: ExecutionContext,
): Promise<{ peer: Peer; ports: string; accept: () => Promise<OuterPair> }> {
  const peer = Peer.start(t);
  const [first, second] = [await peer.listen({ port: 0 }), await peer.listen({ port: 0 })];
  const accept = async () => ({
    client: (await within(30_000, 'socket a connects', peer.accept(first.listener))).conn,
    origin: (await within(30_000, 'socket b connects', peer.accept(second.listener))).conn,
  });
  return { peer, ports: JSON.stringify([first.port, second.port]), accept };
}

/** Starts a program that begins with `MEET`. */
export function program(t: ExecutionContext, body: string, ...args: string[]): ChildProcess {
  return started(t, process.execPath, [...nodeArguments(MEET + body), ...args], ['pipe', 'pipe', 'pipe']);
}

/** Sends 1 MiB through a relay in each direction. */
export const exchange = async (peer: Peer, { client, origin }: OuterPair) => {
  await Promise.all([peer.write(client, MiB, 1), peer.read(origin, MiB)]);
  await Promise.all([peer.write(origin, MiB, 2), peer.read(client, MiB)]);
};

/** Starts three relays: one idle, one that waits for a limiter, one with a full destination. */
export const RUNNING = `
  const running = async (ports) => {
    for (const options of [{}, { rateLimit: 1000 }, { idleTimeout: 60_000, onProgress() {} }]) {
      const [a, b] = await meet(ports);
      relay(a, b, options).catch(() => {});
    }
  };
`;
const RELAYS = 3;

/** Accepts the outer ends of the relays of `RUNNING` and makes them busy. */
export async function busy(peer: Peer, accept: () => Promise<OuterPair>): Promise<OuterPair[]> {
  const outer: OuterPair[] = [];
  while (outer.length < RELAYS) outer.push(await accept());
  // Nothing reads from the origins, so the last relay fills its destination.
  for (const { client } of outer.slice(1)) peer.write(client, 64 * MiB, 1).catch(() => {});
  await sleep(300);
  return outer;
}

/** Asserts that every peer of the relays of `RUNNING` sees a reset. */
export async function allReset(t: ExecutionContext, peer: Peer, outer: OuterPair[]): Promise<void> {
  for (const [index, { client, origin }] of outer.entries()) {
    const atOrigin = await within(10_000, `origin ${index} sees the end`, peer.readToEnd(origin));
    t.is(atOrigin.end, 'reset', `origin ${index}`);
    if (index === 0) {
      const atClient = await within(10_000, 'client 0 sees the end', peer.readToEnd(client));
      t.is(atClient.end, 'reset', 'client 0');
      continue;
    }
    // These clients were writing. The kernel reports a reset only once, and the writer may have received it.
    const write = await peer.writeText(client, 'x').then(
      () => 'accepted',
      (error: NodeJS.ErrnoException) => error.code,
    );
    t.not(write, 'accepted', `client ${index}`);
  }
}
