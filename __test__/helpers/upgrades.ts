// Proxies for upgraded connections from several packages, with what others can notice of them: for tests that compare a
// package with and without an adapter.
import type { EventEmitter } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';

import type { ExecutionContext } from 'ava';
import httpProxy from 'http-proxy';
import * as httpProxy3 from 'http-proxy-3';
import { createProxyMiddleware } from 'http-proxy-middleware';
import * as httpxy from 'httpxy';

import { relayUpgrades, type UpgradeProxy } from 'fdsplice/http-proxy';
import { serve } from './local-peers.js';
import { until, within } from './wait.js';

type Upgrade = (request: http.IncomingMessage, socket: Socket, head: Buffer) => void;

type Proxy = EventEmitter & Pick<UpgradeProxy, 'ws'>;

interface Gateway {
  proxy: Proxy;
  upgrade: Upgrade;
}

/** Options of {@link relayUpgrades}, or none for the package as it is. */
export type Adapter = Parameters<typeof relayUpgrades>[1] | undefined;

/** Makes a proxy of each package. The adapter accepts the types of all of them. */
export const packages: Record<string, (target: string, adapter: Adapter) => Gateway> = {
  'http-proxy-3': (target, adapter) => {
    const proxy = httpProxy3.createProxyServer({ target, ws: true });
    if (adapter !== undefined) relayUpgrades(proxy, adapter);
    return { proxy, upgrade: (request, socket, head) => proxy.ws(request, socket, head) };
  },
  'http-proxy': (target, adapter) => {
    const proxy = httpProxy.createProxyServer({ target, ws: true });
    if (adapter !== undefined) relayUpgrades(proxy, adapter);
    return { proxy, upgrade: (request, socket, head) => proxy.ws(request, socket, head) };
  },
  httpxy: (target, adapter) => {
    const proxy = httpxy.createProxyServer({ target, ws: true });
    if (adapter !== undefined) relayUpgrades(proxy, adapter);
    return {
      proxy,
      upgrade: (request, socket, head) => void proxy.ws(request, socket, { target, ws: true }, head),
    };
  },
  'http-proxy-middleware': (target, adapter) => {
    let made: Proxy | undefined;
    const middleware = createProxyMiddleware({
      target,
      ws: true,
      plugins: [(proxy) => void (made = adapter === undefined ? proxy : relayUpgrades(proxy, adapter))],
    });
    return { proxy: made as Proxy, upgrade: (...args) => middleware.upgrade(...args) };
  },
};

/** What was noticed of one upgraded connection, in order for each observer. */
export interface Seen {
  /** The events of the proxy. */
  proxy: string[];
  /** The events of its socket to the target, from 'open' on. */
  upstream: string[];
  /** The events of its socket to the client, with its counts of bytes at the end. */
  front: string[];
  /** How the connection ended for the client and for the target: `end` or the code of an error. */
  client: string;
  target: string;
}

export interface Conversation {
  /** The client's connection, upgraded. */
  client: Socket;
  /** What the client has received since the answer to its handshake. */
  received: () => Buffer;
  /** The target's end of the connection. */
  target: Socket;
  /** What the target has received since the handshake. */
  taken: () => Buffer;
}

export interface Scenario {
  /** What the owner of the proxy does with it before the connection. */
  prepare?: (proxy: Gateway['proxy']) => void;
  /** Sent by either side in one segment with its part of the handshake. */
  heads?: { client: string; target: string };
  talk: (conversation: Conversation) => Promise<unknown> | void;
}

/** Collects what follows the empty line that ends a handshake. */
function collect(socket: Socket): { isOpen: () => boolean; rest: () => Buffer } {
  const chunks: Buffer[] = [];
  let at = -1;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    if (at < 0) at = Buffer.concat(chunks).indexOf('\r\n\r\n');
  });
  return { isOpen: () => at >= 0, rest: () => Buffer.concat(chunks).subarray(at + 4) };
}

/** How a connection ends; its own end follows that of its peer. */
function endingOf(socket: Socket): () => string {
  let ending = '';
  socket
    .on('error', ({ code }: NodeJS.ErrnoException) => (ending ||= code ?? 'error'))
    .on('end', () => {
      ending ||= 'end';
      socket.end();
    })
    .on('close', () => (ending ||= 'close'));
  return () => ending;
}

function note(socket: Socket, events: string[], counts: boolean): void {
  socket
    .on('end', () => events.push('end'))
    .on('error', ({ code }: NodeJS.ErrnoException) => events.push(`error ${code}`))
    .on('close', (hadError) => {
      events.push(`close ${hadError}`);
      if (counts) events.push(`${socket.bytesRead} read, ${socket.bytesWritten} written`);
    });
}

export async function listen(t: ExecutionContext, server: http.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** Runs one upgraded connection through a proxy until both of its sockets are closed. */
export async function observe(
  t: ExecutionContext,
  name: string,
  adapter: Adapter,
  { prepare, heads, talk }: Scenario,
): Promise<Seen> {
  const seen: Seen = { proxy: [], upstream: [], front: [], client: '', target: '' };
  const targets: { socket: Socket; rest: () => Buffer; ending: () => string }[] = [];
  const { port: targetPort } = await serve(t, (socket) => {
    const { isOpen, rest } = collect(socket);
    const ending = endingOf(socket);
    socket.once('data', () => {
      if (!isOpen()) return;
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${heads?.target ?? ''}`,
      );
      targets.push({ socket, rest, ending });
    });
  });
  const gateway = packages[name]?.(`http://127.0.0.1:${targetPort}`, adapter);
  if (gateway === undefined) throw new Error(`no package ${name}`);
  const { proxy, upgrade } = gateway;
  prepare?.(proxy);
  let open = 0;
  proxy
    .on('open', (upstream: Socket) => {
      seen.proxy.push('open');
      open += 1;
      note(
        upstream.on('close', () => (open -= 1)),
        seen.upstream,
        false,
      );
    })
    .on('error', ({ message }: Error) => seen.proxy.push(`error ${message}`))
    .on('close', ({ statusCode }: http.IncomingMessage, upstream: Socket, head: Buffer) =>
      seen.proxy.push(`close ${statusCode} ${upstream instanceof net.Socket} ${head.length}`),
    );
  const front = http.createServer().on('upgrade', upgrade);
  front.on('connection', (socket) => {
    open += 1;
    note(
      socket.on('close', () => (open -= 1)),
      seen.front,
      true,
    );
  });
  const client = net.connect(await listen(t, front), '127.0.0.1');
  t.teardown(() => client.destroy());
  const ending = endingOf(client);
  const { isOpen, rest } = collect(client);
  client.write(
    `GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${heads?.client ?? ''}`,
  );
  await until('the connection is upgraded', isOpen, Boolean);
  const [target] = targets;
  if (target === undefined) throw new Error('the target has no connection');
  await within(
    60_000,
    'the conversation',
    Promise.resolve(talk({ client, received: rest, target: target.socket, taken: target.rest })),
  );
  await until(
    `both sockets of ${name} are closed`,
    () => open,
    (left) => left === 0,
  );
  await until('both peers have ended', () => ending() !== '' && target.ending() !== '', Boolean);
  return { ...seen, client: ending(), target: target.ending() };
}
