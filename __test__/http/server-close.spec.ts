// Servers that are closed while their connections are relayed or their responses are sent: close() waits for them, and
// closeAllConnections() ends what Node still owns.
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { relay, sendFile, type TrafficResult, type Transfer } from 'fdsplice';

import { sample } from '../helpers/copy-files.js';
import { engine } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { type Conn, Peer } from '../helpers/peer.js';
import { deferred, within } from '../helpers/wait.js';
import { watch } from '../helpers/watch.js';

nothingIsLeft(test, 'behind all tests');

async function listening(server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** Closes a server, and reports when its callback was called. */
function closing(server: net.Server) {
  const closed = deferred<Error | undefined>();
  let isClosed = false;
  server.close((error) => {
    isClosed = true;
    closed.resolve(error);
  });
  return {
    /** Whether the callback was called, after some time to do so. */
    isClosed: async () => {
      await sleep(100);
      return isClosed;
    },
    closed: () => within(30_000, 'the server has closed', closed.promise),
  };
}

const CONNECT = 'CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n';
const UPGRADE = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n';

interface Tunnel {
  server: http.Server;
  peer: Peer;
  client: Conn;
  origin: Conn;
  transfer: Transfer;
}

/** A relay of the socket that an HTTP server emits for this request. */
async function tunnel(t: ExecutionContext, event: 'connect' | 'upgrade', request: string): Promise<Tunnel> {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const server = http.createServer();
  t.teardown(() => void server.close());
  const begun = deferred<{ transfer: Transfer }>();
  server.on(event, (_request: IncomingMessage, socket: net.Socket, head: Buffer) => {
    const upstream = net.connect({ port, host: '127.0.0.1' });
    begun.resolve({ transfer: relay(socket, upstream, { headFromA: head }) });
  });
  const { conn: client } = await peer.connect({ port: await listening(server) });
  await peer.writeText(client, `${request}head`);
  const { conn: origin } = await within(30_000, 'the tunnel is connected', peer.accept(listener));
  t.is(await peer.readText(origin, 4), 'head');
  return { server, peer, client, origin, ...(await begun.promise) };
}

for (const [event, request] of [
  ['connect', CONNECT],
  ['upgrade', UPGRADE],
] as const) {
  test(`${event}: close() of an HTTP server leaves a relayed tunnel running, and calls back once the tunnel has ended`, async (t) => {
    const { server, peer, client, origin, transfer } = await tunnel(t, event, request);
    const { isClosed, closed } = closing(server);
    t.false(await isClosed());
    await peer.writeText(client, 'there');
    await peer.writeText(origin, 'back');
    t.is(await peer.readText(origin, 5), 'there');
    t.is(await peer.readText(client, 4), 'back');
    // One ended side does not end the tunnel.
    await peer.shutdown(client);
    t.is((await peer.readToEnd(origin)).end, 'eof');
    t.false(await isClosed());
    await peer.writeText(origin, 'late');
    t.is(await peer.readText(client, 4), 'late');
    await peer.shutdown(origin);
    t.is((await peer.readToEnd(client)).end, 'eof');
    t.like(await transfer, { tx: 9, rx: 8, engine });
    t.is(await closed(), undefined);
  });

  test(`${event}: closeAllConnections() leaves a relayed tunnel running`, async (t) => {
    const { server, peer, client, origin, transfer } = await tunnel(t, event, request);
    const { isClosed, closed } = closing(server);
    // Node no longer tracks a connection that it emitted for CONNECT or upgrade.
    server.closeAllConnections();
    server.closeIdleConnections();
    t.false(await isClosed());
    await peer.writeText(client, 'there');
    t.is(await peer.readText(origin, 5), 'there');
    await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
    t.like(await transfer, { tx: 9, rx: 0, engine });
    t.is(await closed(), undefined);
  });

  test(`${event}: a closing HTTP server calls back once its tunnel was aborted`, async (t) => {
    const { server, peer, client, origin, transfer } = await tunnel(t, event, request);
    const { isClosed, closed } = closing(server);
    t.false(await isClosed());
    transfer.abort();
    t.is((await failure(t, transfer)).code, 'ABORT_ERR');
    t.is(await closed(), undefined);
    t.is((await peer.readToEnd(client)).end, 'reset');
    t.is((await peer.readToEnd(origin)).end, 'reset');
  });
}

const SIZE = 30_000_000;

/** A response in progress, to a client that has read only its headers. */
async function answering(t: ExecutionContext) {
  const { path } = sample(t, SIZE);
  const begun = deferred<{ response: ServerResponse; transfer: Transfer }>();
  const server = http.createServer((_request, response) => {
    begun.resolve({ response, transfer: sendFile(path, response, { reject: false }) });
  });
  t.teardown(() => void server.close());
  const agent = new http.Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const request = http.get({ port: await listening(server), host: '127.0.0.1', agent });
  const [message] = (await within(30_000, 'an answer', once(request, 'response'))) as [IncomingMessage];
  return { server, message, ...(await begun.promise) };
}

test('close() of an HTTP server waits until a file in progress is sent, and then calls back', async (t) => {
  const { server, message, transfer } = await answering(t);
  const { isClosed, closed } = closing(server);
  server.closeIdleConnections();
  t.false(await isClosed());
  let bytes = 0;
  for await (const chunk of message) bytes += (chunk as Buffer).length;
  t.is(bytes, SIZE);
  t.like(await transfer, { tx: SIZE, engine, error: null });
  // The connection is idle now, and Node may have closed it already.
  server.closeIdleConnections();
  t.is(await closed(), undefined);
});

test('closeAllConnections() cuts off a file in progress: the transfer fails, and the client sees the failure', async (t) => {
  const { server, message, response, transfer } = await answering(t);
  const seen: string[] = [];
  response.on('finish', () => seen.push('finish')).on('close', () => seen.push('close'));
  const { closed } = closing(server);
  server.closeAllConnections();
  const { tx, error } = await within<TrafficResult>(30_000, 'the transfer ends', transfer);
  t.is(error?.side, 'destination');
  t.true(tx < SIZE);
  t.is(await closed(), undefined);
  await t.throwsAsync(
    (async () => {
      for await (const _chunk of message);
    })(),
    { code: 'ECONNRESET' },
  );
  t.deepEqual(seen, ['close']);
});

for (const [ending, act] of [
  ['both ends', (peer: Peer, { client, origin }: Tunnel) => [peer.shutdown(client), peer.shutdown(origin)]],
  ['a reset', (peer: Peer, { origin }: Tunnel) => [peer.reset(origin)]],
  ['an abort', (_peer: Peer, { transfer }: Tunnel) => [Promise.resolve(transfer.abort())]],
] as const) {
  test(`a closing net.Server waits for its relayed sockets, each of which emits 'close' once, after ${ending}`, async (t) => {
    const peer = Peer.start(t);
    const { listener, port } = await peer.listen({ port: 0 });
    const transfers: Transfer[] = [];
    const seen: ReturnType<typeof watch>[] = [];
    const server = net.createServer((socket) => {
      const upstream = net.connect({ port, host: '127.0.0.1' });
      seen.push(watch(socket), watch(upstream));
      transfers.push(relay(socket, upstream, { reject: false }));
    });
    t.teardown(() => void server.close());
    const address = { port: await listening(server) };
    const ends: { client: Conn; origin: Conn }[] = [];
    for (let index = 0; index < 3; index += 1) {
      const { conn: client } = await peer.connect(address);
      ends.push({ client, origin: (await peer.accept(listener)).conn });
      await peer.writeText(client, 'hello');
      t.is(await peer.readText(ends[index]?.origin ?? -1, 5), 'hello');
    }
    const { isClosed, closed } = closing(server);
    let closes = 0;
    server.on('close', () => (closes += 1));
    for (const [index, transfer] of transfers.entries()) {
      t.false(await isClosed());
      t.is(await new Promise((resolve) => server.getConnections((_, count) => resolve(count))), 3 - index);
      await Promise.all(act(peer, { ...(ends[index] as Tunnel), transfer }));
      t.is((await within(30_000, 'the relay ends', transfer)).tx, 5);
    }
    t.is(await closed(), undefined);
    await sleep(50);
    t.is(closes, 1);
    t.deepEqual(
      seen.map(({ close, error }) => [close, error]),
      seen.map(() => [1, 0]),
    );
  });
}
