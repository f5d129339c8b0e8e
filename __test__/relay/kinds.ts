// The two ends of a relay and their peers, for each kind of stream that can be an end.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http2, { type ServerHttp2Stream } from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

import type { ExecutionContext } from 'ava';

import { duplexPair, listening, session } from '../streams/ends.js';

export interface Ends {
  /** The peer of `a`. */
  client: Duplex;
  a: Duplex;
  b: Duplex;
  /** The peer of `b`. */
  origin: Duplex;
}

async function connected(t: ExecutionContext, address: () => net.ListenOptions): Promise<[Duplex, Duplex]> {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen({ ...address() });
  await once(server, 'listening');
  const made = server.address() as AddressInfo | string;
  const target = typeof made === 'string' ? { path: made } : { port: made.port, host: '127.0.0.1' };
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const outer = net.connect({ ...target, allowHalfOpen: true });
  const [[inner]] = await Promise.all([accepted, once(outer, 'connect')]);
  server.close();
  for (const socket of [inner, outer]) {
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
  }
  return [outer, inner];
}

export async function tcp(t: ExecutionContext): Promise<[Duplex, Duplex]> {
  return connected(t, () => ({ port: 0, host: '127.0.0.1' }));
}

export async function unix(t: ExecutionContext): Promise<[Duplex, Duplex]> {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return connected(t, () => ({ path: join(directory, 's') }));
}

export async function overTls(t: ExecutionContext): Promise<[Duplex, Duplex]> {
  const { inner, outer } = await session(t);
  return [outer, inner];
}

/** A CONNECT stream of HTTP/2. */
async function overHttp2(t: ExecutionContext): Promise<[Duplex, Duplex]> {
  const server = http2.createServer();
  const client = http2.connect(`http://127.0.0.1:${await listening(t, server)}`);
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  const outer = client.request({ ':method': 'CONNECT', ':authority': 'origin:443' });
  outer.on('error', () => {});
  const [inner] = (await once(server, 'stream')) as [ServerHttp2Stream];
  inner.respond({ ':status': 200 });
  return [outer, inner];
}

export const KINDS: Record<string, (t: ExecutionContext) => Promise<Ends>> = {
  tcp: async (t) => ends(await tcp(t), await tcp(t)),
  unix: async (t) => ends(await unix(t), await unix(t)),
  'tls and tcp': async (t) => ends(await overTls(t), await tcp(t)),
  'tcp and tls': async (t) => ends(await tcp(t), await overTls(t)),
  'http2 and tcp': async (t) => ends(await overHttp2(t), await tcp(t)),
  'duplex streams': (_t) => Promise.resolve(ends(duplexPair(), duplexPair())),
};

function ends([client, a]: [Duplex, Duplex], [origin, b]: [Duplex, Duplex]): Ends {
  return { client, a, b, origin };
}

/** The error of a relay one of whose ends was destroyed. HTTP/2 reports no difference to a cancelled stream. */
export function blameOf(destroyed: Duplex, side: 'a' | 'b', cause: Error | null = null): object {
  if ('rstCode' in destroyed) return { code: 'ECONNRESET', side, cause: undefined };
  return { code: 'ABORT_ERR', side, cause };
}
