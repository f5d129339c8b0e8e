// The recipes of docs/recipes.md with the real packages. The same traffic through a package with and without the relay must
// give the same bytes, statistics and events.
import { randomBytes } from 'node:crypto';
import { tracingChannel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo, type Socket } from 'node:net';

import test, { type ExecutionContext } from 'ava';
import type { TrafficResult } from 'fdsplice';
import * as httpProxy from 'http-proxy-3';
import * as httpxy from 'httpxy';
import { type HttpServerOptions, Server as ProxyChain } from 'proxy-chain';
import { WebSocket, WebSocketServer } from 'ws';

import { connect, echo, endingOf, serve } from '../helpers/local-peers.js';
import { engine } from '../helpers/engine.js';
import { recipe } from '../helpers/recipe.js';
import { until, within } from '../helpers/wait.js';

const MiB = 1 << 20;

/** Runs `work` and collects the results of all relays meanwhile. */
async function relaysOf<T>(work: () => Promise<T>): Promise<{ outcome: T; relays: TrafficResult[] }> {
  const relays: TrafficResult[] = [];
  const ended = (message: unknown) => {
    const { result } = message as { result?: TrafficResult };
    if (result !== undefined) relays.push(result);
  };
  const { asyncEnd } = tracingChannel('fdsplice');
  asyncEnd.subscribe(ended);
  try {
    return { outcome: await work(), relays };
  } finally {
    asyncEnd.unsubscribe(ended);
  }
}

interface TunnelAnswer {
  status: string;
  body: Buffer;
}

/** Sends CONNECT with the start of `bytes` in the same segment, then the rest, and reads to the end. */
async function tunnel(
  t: ExecutionContext,
  port: number,
  target: string,
  bytes: Buffer,
): Promise<TunnelAnswer> {
  const client = await connect(t, { port });
  const chunks: Buffer[] = [];
  const whole = (async () => {
    for await (const chunk of client) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  })();
  const along = bytes.subarray(0, 100);
  client.write(Buffer.concat([Buffer.from(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`), along]));
  await until(
    'the tunnel is open',
    () => Buffer.concat(chunks).indexOf('\r\n\r\n'),
    (at) => at >= 0,
  );
  client.end(bytes.subarray(100));
  const all = await within(30_000, 'the tunnel ends', whole);
  const end = all.indexOf('\r\n\r\n');
  return { status: all.subarray(0, end).toString(), body: all.subarray(end + 4) };
}

interface ChainRecipe {
  createServer: (options: HttpServerOptions) => ProxyChain;
}

async function proxyChain(t: ExecutionContext, server: ProxyChain) {
  await server.listen();
  t.teardown(() => server.close(true));
  const stats: unknown[] = [];
  server.on('connectionClosed', (event: { stats: unknown }) => stats.push(event.stats));
  return { port: server.port, stats };
}

test.serial(
  'proxy-chain: direct and chained tunnels have the same bytes and statistics as without the relay',
  async (t) => {
    const { createServer } = await recipe<ChainRecipe>(t, 'proxy-chain');
    const target = await echo(t);
    const upstream = await proxyChain(t, new ProxyChain({ port: 0, host: '127.0.0.1' }));
    const chained = () => ({ upstreamProxyUrl: `http://127.0.0.1:${upstream.port}` });
    const at: HttpServerOptions = { port: 0, host: '127.0.0.1' };
    for (const [route, options] of [
      ['direct', at],
      ['chained', { ...at, prepareRequestFunction: chained }],
    ] as const) {
      for (const size of [100, 5_000, 12 * MiB]) {
        const bytes = randomBytes(size);
        const through = async (server: ProxyChain) => {
          const { port, stats } = await proxyChain(t, server);
          const { status, body } = await tunnel(t, port, target, bytes);
          t.true(body.equals(bytes), `${route}, ${size} bytes`);
          await until('the connection is closed', () => stats.length, Boolean);
          return { status, stats };
        };
        const own = await relaysOf(() => through(new ProxyChain(options)));
        t.is(own.relays.length, 0);
        const ours = await relaysOf(() => through(createServer(options)));
        t.deepEqual(ours.outcome, own.outcome, `${route}, ${size} bytes`);
        t.is(ours.relays.length, 1);
        // The counts omit the answer to CONNECT, which the package writes itself.
        t.like(ours.relays[0], { tx: size, rx: size, engine, error: null });
      }
    }
  },
);

test.serial(
  'proxy-chain: statistics grow while a tunnel is open, and closeConnections() ends it',
  async (t) => {
    const { createServer } = await recipe<ChainRecipe>(t, 'proxy-chain');
    const target = await echo(t);
    const server = createServer({ port: 0, host: '127.0.0.1' });
    const { port, stats } = await proxyChain(t, server);
    const client = await connect(t, { port });
    let received = 0;
    client.on('data', (chunk: Buffer) => (received += chunk.length));
    client.write(`CONNECT ${target} HTTP/1.1\r\n\r\n`);
    await until('the tunnel is open', () => received, Boolean);
    const [id = -1] = server.getConnectionIds();
    const before = server.getConnectionStats(id);
    const answer = received;
    client.write(Buffer.alloc(MiB));
    await until(
      'the echo has arrived',
      () => received - answer,
      (count) => count === MiB,
    );
    await until(
      'the statistics have the bytes',
      () => server.getConnectionStats(id),
      (now) =>
        now?.srcRxBytes === (before?.srcRxBytes ?? 0) + MiB &&
        now.srcTxBytes === (before?.srcTxBytes ?? 0) + MiB &&
        now.trgTxBytes === MiB &&
        now.trgRxBytes === MiB,
    );
    server.closeConnections();
    t.is(await within(20_000, 'the client connection ends', endingOf(client)), 'ECONNRESET');
    await until(
      'connectionClosed is emitted',
      () => stats.length,
      (count) => count === 1,
    );
  },
);

test.serial('proxy-chain: a target that refuses or resets ends the client connection', async (t) => {
  const { createServer } = await recipe<ChainRecipe>(t, 'proxy-chain');
  const { port: resetting } = await serve(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
  const { server: listener, port: gone } = await serve(t, () => undefined);
  listener.close();
  const { port, stats } = await proxyChain(t, createServer({ port: 0, host: '127.0.0.1' }));
  const endings: string[] = [];
  for (const target of [gone, resetting]) {
    const client = await connect(t, { port });
    client.write(`CONNECT 127.0.0.1:${target} HTTP/1.1\r\n\r\nhello`);
    endings.push(await within(20_000, 'the client connection ends', endingOf(client)));
    client.destroy();
  }
  await until(
    'connectionClosed is emitted for both',
    () => stats.length,
    (count) => count === 2,
  );
  // The package itself ends the first connection without an error. The reset of the second one is passed on.
  t.deepEqual(endings, ['end', 'ECONNRESET']);
});

/** The common interface of the WebSocket proxies. */
interface Proxy {
  on(event: 'open', listener: (socket: Socket) => void): unknown;
  on(event: 'close', listener: (response: http.IncomingMessage, socket: Socket) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  ws(request: http.IncomingMessage, socket: Socket, ...rest: unknown[]): unknown;
  close(): unknown;
}

interface WsPackage {
  createProxy: (options: { target: string; ws: boolean }) => Proxy;
}

async function listening(t: ExecutionContext, server: http.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** Sends messages through a proxy to an echo server, until the client or the target ends the connection. */
async function conversation(
  t: ExecutionContext,
  proxy: Proxy,
  target: string,
  sockets: WebSocketServer,
  endedBy: 'client' | 'target',
) {
  const events: unknown[] = [];
  proxy.on('open', () => events.push('open'));
  proxy.on('error', (error) => events.push(error.message));
  proxy.on('close', (response, socket) => {
    const { bytesRead, bytesWritten } = socket;
    events.push(['close', response.statusCode, bytesRead, bytesWritten]);
  });
  const front = http.createServer();
  const accounts: unknown[] = [];
  front.on('connection', (socket) => {
    socket.on('close', (hadError) => accounts.push([socket.bytesRead, socket.bytesWritten, hadError]));
  });
  front.on('upgrade', (request, socket: Socket, head: Buffer) => {
    if (proxy instanceof httpProxy.ProxyServer) proxy.ws(request, socket, head);
    else void proxy.ws(request, socket, { target, ws: true }, head);
  });
  const port = await listening(t, front);
  const client = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
  const closed = once(client, 'close');
  const message = async () => {
    const [data] = (await within(20_000, 'a message', once(client, 'message'))) as [Buffer];
    return data;
  };
  t.is((await message()).toString(), 'welcome');
  for (const size of [0, 10, 70_000, 2 * MiB]) {
    const bytes = randomBytes(size);
    client.send(bytes);
    t.true(bytes.equals(await message()), `${size} bytes`);
  }
  if (endedBy === 'client') client.close(4321, 'enough');
  else for (const each of sockets.clients) each.close(4321, 'enough');
  const [code, reason] = (await within(20_000, 'the WebSocket closes', closed)) as [number, Buffer];
  await until('the front socket is closed', () => accounts.length, Boolean);
  await until(
    'the proxy emits its close event',
    () => events.length,
    (count) => count >= 2,
  );
  return { code, reason: reason.toString(), events, accounts };
}

for (const [name, own] of [
  ['http-proxy-3', (options: { target: string; ws: boolean }) => httpProxy.createProxyServer(options)],
  ['httpxy', (options: { target: string; ws: boolean }) => httpxy.createProxyServer(options)],
] as const) {
  for (const endedBy of ['client', 'target'] as const) {
    test.serial(
      `${name}: a WebSocket ended by the ${endedBy} has the same messages, byte counts and events as without the relay`,
      async (t) => {
        const { createProxy } = await recipe<WsPackage>(t, name);
        const origin = http.createServer();
        const sockets = new WebSocketServer({ noServer: true });
        origin.on('upgrade', (request, socket, head) => {
          // Corked, so that the greeting is in one segment with the handshake.
          socket.cork();
          sockets.handleUpgrade(request, socket, head, (client) => {
            client.on('message', (data, isBinary) => client.send(data as Buffer, { binary: isBinary }));
            client.send('welcome');
            socket.uncork();
          });
        });
        const target = `http://127.0.0.1:${await listening(t, origin)}`;
        const options = { target, ws: true };
        const theirs = await relaysOf(() =>
          conversation(t, own(options) as unknown as Proxy, target, sockets, endedBy),
        );
        t.is(theirs.relays.length, 0);
        const ours = await relaysOf(() => conversation(t, createProxy(options), target, sockets, endedBy));
        t.deepEqual(ours.outcome, theirs.outcome);
        await until('the relay has ended', () => ours.relays.length, Boolean);
        t.like(ours.relays[0], { engine, error: null });
        if (name === 'http-proxy-3')
          await until('no socket is left', httpProxy.numOpenSockets, (left) => left === 0);
      },
    );
  }
}

for (const name of ['http-proxy-3', 'httpxy'] as const) {
  test.serial(
    `${name}: a lost client ends the target connection, and a lost target ends the client`,
    async (t) => {
      const { createProxy } = await recipe<WsPackage>(t, name);
      const sockets = new Set<Socket>();
      const { port } = await serve(t, (socket) => {
        sockets.add(socket.on('close', () => sockets.delete(socket)));
        socket.once('data', () => {
          socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
          );
          socket.resume();
        });
      });
      const target = `http://127.0.0.1:${port}`;
      const proxy = createProxy({ target, ws: true });
      proxy.on('error', () => undefined);
      const front = http.createServer();
      front.on('upgrade', (request, socket: Socket, head: Buffer) => {
        if (proxy instanceof httpProxy.ProxyServer) proxy.ws(request, socket, head);
        else void proxy.ws(request, socket, { target, ws: true }, head);
      });
      const at = await listening(t, front);
      for (const gone of ['client', 'target']) {
        const client = net.connect(at, '127.0.0.1').on('error', () => undefined);
        t.teardown(() => client.destroy());
        client.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
        await within(20_000, 'the handshake', once(client, 'data'));
        if (gone === 'client') client.resetAndDestroy();
        else for (const socket of sockets) socket.resetAndDestroy();
        client.resume();
        const left = await until(
          'no connection is left',
          () => [sockets.size, client.closed],
          ([targets, closed]) => targets === 0 && closed === true,
        );
        t.deepEqual(left, [0, true], gone);
      }
    },
  );
}
