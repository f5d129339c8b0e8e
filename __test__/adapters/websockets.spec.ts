// fdsplice/http-proxy with clients and servers of `ws`, and beside the other requests of a server: what is noticed is the same
// with and without the adapter.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net, { type Socket } from 'node:net';

import test, { type ExecutionContext } from 'ava';
import * as httpProxy3 from 'http-proxy-3';
import { WebSocket, WebSocketServer } from 'ws';

import { engine } from '../helpers/engine.js';
import { nobody, serve } from '../helpers/local-peers.js';
import { relaysOf } from '../helpers/relays.js';
import { type Adapter, listen, packages } from '../helpers/upgrades.js';
import { deferred, until, within } from '../helpers/wait.js';

const MiB = 1 << 20;

interface Front {
  server: http.Server;
  port: number;
  /** The events of the proxy. */
  events: string[];
  /** Counts and errors of the connections to clients that are closed. */
  accounts: unknown[];
}

/** A server that proxies upgrades, and answers other requests itself. */
async function start(t: ExecutionContext, name: string, target: string, adapter: Adapter): Promise<Front> {
  const gateway = packages[name]?.(target, adapter);
  if (gateway === undefined) throw new Error(`no package ${name}`);
  const events: string[] = [];
  gateway.proxy
    .on('open', () => events.push('open'))
    .on('error', (error: NodeJS.ErrnoException) => events.push(`error ${error.code}`))
    .on('close', ({ statusCode }: http.IncomingMessage, { bytesRead, bytesWritten }: Socket) =>
      events.push(`close ${statusCode} ${bytesRead} ${bytesWritten}`),
    );
  const server = http.createServer((_request, response) => response.end('served'));
  server.on('upgrade', gateway.upgrade);
  const accounts: unknown[] = [];
  server.on('connection', (socket) =>
    // http-proxy has no listener for it before the upgrade.
    socket
      .on('error', () => undefined)
      .on('close', (hadError) => accounts.push([socket.bytesRead, socket.bytesWritten, hadError])),
  );
  return { server, port: await listen(t, server), events, accounts };
}

/** A WebSocket server that greets in one segment with its part of the handshake, and echoes messages. */
async function webSockets(t: ExecutionContext): Promise<{ target: string; sockets: WebSocketServer }> {
  const origin = http.createServer();
  const sockets = new WebSocketServer({ noServer: true });
  origin.on('upgrade', (request, socket, head) => {
    socket.cork();
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on('message', (data, isBinary) => client.send(data as Buffer, { binary: isBinary }));
      client.send('welcome');
      socket.uncork();
    });
  });
  return { target: `http://127.0.0.1:${await listen(t, origin)}`, sockets };
}

for (const name of Object.keys(packages)) {
  for (const endedBy of ['client', 'target'] as const) {
    test.serial(
      `${name}: a WebSocket ended by the ${endedBy} has the same messages, byte counts and events as without the adapter`,
      async (t) => {
        const { target, sockets } = await webSockets(t);
        const conversation = async (adapter: Adapter) => {
          const { port, events, accounts } = await start(t, name, target, adapter);
          const client = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
          const closed = once(client, 'close');
          const message = async () =>
            ((await within(20_000, 'a message', once(client, 'message'))) as [Buffer])[0];
          t.is((await message()).toString(), 'welcome');
          for (const size of [0, 10, 70_000, 2 * MiB]) {
            const bytes = randomBytes(size);
            client.send(bytes);
            t.true(bytes.equals(await message()), `${size} bytes`);
          }
          if (endedBy === 'client') client.close(4321, 'enough');
          else for (const each of sockets.clients) each.close(4321, 'enough');
          const [code, reason] = (await within(20_000, 'the WebSocket closes', closed)) as [number, Buffer];
          await until('the socket of the client is closed', () => accounts.length, Boolean);
          await until(
            'the proxy emits its close event',
            () => events.length,
            (count) => count >= 2,
          );
          return { code, reason: reason.toString(), events, accounts };
        };
        const without = await relaysOf(() => conversation(undefined));
        t.is(without.relays.length, 0);
        const adapted = await relaysOf(() => conversation({}));
        t.deepEqual(adapted.outcome, without.outcome);
        t.like(adapted.relays, { 0: { engine, error: null }, length: 1 });
        if (name === 'http-proxy-3')
          await until('no socket is left', httpProxy3.numOpenSockets, (left) => left === 0);
      },
    );
  }

  test.serial(
    `${name}: a target that refuses the upgrade or the connection is reported as without the adapter`,
    async (t) => {
      const refusing = http.createServer();
      refusing.on('upgrade', (_request, socket) =>
        socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno'),
      );
      for (const target of [`http://127.0.0.1:${await listen(t, refusing)}`, `http://${await nobody(t)}`]) {
        const seen: unknown[] = [];
        for (const adapter of [undefined, {}]) {
          const { port, events, accounts } = await start(t, name, target, adapter);
          const client = net.connect(port, '127.0.0.1');
          client.on('error', () => undefined);
          const chunks: Buffer[] = [];
          client.on('data', (chunk: Buffer) => chunks.push(chunk));
          client.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
          await within(20_000, 'the client is closed', once(client, 'close'));
          await until('the socket of the client is closed', () => accounts.length, Boolean);
          seen.push([
            Buffer.concat(chunks)
              .toString()
              .replace(/^date:.*/im, ''),
            events,
            accounts,
          ]);
        }
        t.deepEqual(seen[1], seen[0]);
      }
    },
  );

  test.serial(
    `${name}: a client that leaves before the target answers is reported as without the adapter`,
    async (t) => {
      const seen: unknown[] = [];
      for (const adapter of [undefined, {}]) {
        const asked = deferred<Socket>();
        const { port: target } = await serve(t, (socket) => socket.once('data', () => asked.resolve(socket)));
        const { port, events, accounts } = await start(t, name, `http://127.0.0.1:${target}`, adapter);
        const client = net.connect(port, '127.0.0.1');
        client.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
        const upstream = await within(20_000, 'the target is asked', asked.promise);
        client.resetAndDestroy();
        await until('the socket of the client is closed', () => accounts.length, Boolean);
        upstream.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
        upstream.resume();
        await within(20_000, 'the target is closed', once(upstream, 'close'));
        seen.push([events.map((event) => event.replace(/\d+ \d+$/, '')), accounts]);
      }
      t.deepEqual(seen[1], seen[0]);
    },
  );

  test.serial(
    `${name}: requests before and beside a relay are served, and the server closes after it`,
    async (t) => {
      const { target } = await webSockets(t);
      const { server, port } = await start(t, name, target, {});
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      t.teardown(() => agent.destroy());
      const status = async () => {
        let localPort: number | undefined;
        const request = http.get({ port, agent }, ({ socket }) => (localPort = socket.localPort));
        const [response] = (await once(request, 'response')) as [http.IncomingMessage];
        await once(response.resume(), 'end');
        return [response.statusCode, localPort];
      };
      const first = await status();
      const client = new WebSocket(`ws://127.0.0.1:${port}/`);
      await within(20_000, 'the greeting', once(client, 'message'));
      t.deepEqual(await status(), first, 'the connection is kept alive');
      let isClosed = false;
      server.close(() => (isClosed = true));
      client.send('hello');
      await within(20_000, 'the echo', once(client, 'message'));
      t.false(isClosed);
      client.close();
      await until('the server is closed', () => isClosed, Boolean);
    },
  );
}

test.serial("a listener for 'data' that is added at 'open' sees all bytes, and the pipes stay", async (t) => {
  const { target } = await webSockets(t);
  let bytes = 0;
  const { relays } = await relaysOf(async () => {
    const gateway = packages['http-proxy-3']?.(target, {});
    gateway?.proxy.on('open', (upstream: Socket) =>
      upstream.on('data', (chunk: Buffer) => (bytes += chunk.length)),
    );
    const server = http.createServer();
    if (gateway !== undefined) server.on('upgrade', gateway.upgrade);
    const client = new WebSocket(`ws://127.0.0.1:${await listen(t, server)}/`);
    await within(20_000, 'the greeting', once(client, 'message'));
    client.close();
    await within(20_000, 'the close', once(client, 'close'));
  });
  t.is(relays.length, 0);
  t.true(bytes > 'welcome'.length);
});

test.serial("a mistake in the options is an 'error' of the proxy", async (t) => {
  const { target } = await webSockets(t);
  const { port, events } = await start(t, 'http-proxy-3', target, { rateLimit: -1 });
  const client = new WebSocket(`ws://127.0.0.1:${port}/`);
  client.on('error', () => undefined);
  await within(20_000, 'the client is closed', once(client, 'close'));
  t.true(events.includes('error ERR_OUT_OF_RANGE'), events.join());
});
