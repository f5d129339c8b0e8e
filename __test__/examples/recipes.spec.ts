// The recipes of docs/recipes.md that join sockets, as printed there, with the real packages: each makes one relay of a
// connection.
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

import test, { type ExecutionContext } from 'ava';
import type { Server as ProxyChain } from 'proxy-chain';
import { WebSocket, WebSocketServer } from 'ws';

import { engine } from '../helpers/engine.js';
import { connect, echo } from '../helpers/local-peers.js';
import { recipe } from '../helpers/recipe.js';
import { relaysOf } from '../helpers/relays.js';
import { listen } from '../helpers/upgrades.js';
import { until, within } from '../helpers/wait.js';

/** A WebSocket server that echoes messages. */
async function webSockets(t: ExecutionContext): Promise<string> {
  const server = http.createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data as Buffer)));
  return `http://127.0.0.1:${await listen(t, server)}`;
}

/** Sends a message to a gateway and closes the connection when it has come back. */
async function exchange(t: ExecutionContext, gateway: http.Server): Promise<void> {
  const client = new WebSocket(`ws://127.0.0.1:${await listen(t, gateway)}/`);
  await within(20_000, 'the connection', once(client, 'open'));
  client.send('hello');
  const [data] = (await within(20_000, 'the message', once(client, 'message'))) as [Buffer];
  t.is(data.toString(), 'hello');
  client.close(4321);
  const [code] = (await within(20_000, 'the close', once(client, 'close'))) as [number];
  t.is(code, 4321);
}

type Upgrade = (request: IncomingMessage, socket: Socket, head: Buffer) => void;

interface ProxyRecipe {
  createProxy: (target: string) => { ws?: (...args: unknown[]) => unknown; upgrade?: Upgrade };
}

interface GatewayRecipe {
  gateway: (target: string) => http.Server;
}

for (const name of ['http-proxy-3', 'httpxy', 'http-proxy-middleware']) {
  test.serial(`the recipe for ${name} relays a WebSocket`, async (t) => {
    const { createProxy } = await recipe<ProxyRecipe>(t, name);
    const target = await webSockets(t);
    const proxy = createProxy(target);
    const upgrade: Upgrade = (request, socket, head) => {
      if (proxy.upgrade !== undefined) proxy.upgrade(request, socket, head);
      else if (name === 'httpxy') void proxy.ws?.(request, socket, { target, ws: true }, head);
      else proxy.ws?.(request, socket, head);
    };
    const { relays } = await relaysOf(() => exchange(t, http.createServer().on('upgrade', upgrade)));
    t.like(relays, { 0: { engine, error: null }, length: 1 });
  });
}

test.serial('the recipe for proxyUpgrade of httpxy relays a WebSocket', async (t) => {
  const { gateway } = await recipe<GatewayRecipe>(t, 'httpxy', 1);
  const target = await webSockets(t);
  const { relays } = await relaysOf(() => exchange(t, gateway(target)));
  t.like(relays, { 0: { engine, error: null }, length: 1 });
});

/** Sends `hello` through a tunnel to an echo, and ends it when that has come back. */
async function tunnel(t: ExecutionContext, port: number): Promise<void> {
  const client = await connect(t, { port });
  let received = '';
  client.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
  const target = await echo(t);
  client.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  await until(
    'the tunnel is open',
    () => received,
    (text) => text.includes('\r\n\r\n'),
  );
  client.write('hello');
  await until(
    'the echo',
    () => received,
    (text) => text.endsWith('\r\n\r\nhello'),
  );
  client.end();
  await within(20_000, 'the tunnel is closed', once(client, 'close'));
  t.regex(received, /^HTTP\/1.1 200 /);
}

test.serial('the recipe for proxy-chain relays a tunnel', async (t) => {
  interface Recipe {
    createServer: (options: { port: number; host: string }) => ProxyChain;
  }
  const { createServer } = await recipe<Recipe>(t, 'proxy-chain');
  const server = createServer({ port: 0, host: '127.0.0.1' });
  await server.listen();
  t.teardown(() => server.close(true));
  const { relays } = await relaysOf(() => tunnel(t, server.port));
  t.like(relays, { 0: { tx: 5, rx: 5, engine, error: null }, length: 1 });
});

test.serial('the recipe for proxy relays a tunnel', async (t) => {
  const { createServer } = await recipe<{ createServer: () => http.Server }>(t, 'proxy');
  const port = await listen(t, createServer());
  const { relays } = await relaysOf(() => tunnel(t, port));
  t.like(relays, { 0: { tx: 5, rx: 5, engine, error: null }, length: 1 });
});
