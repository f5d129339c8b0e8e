// Connections with an end that only the stream engine serves: TLS sockets, other streams, and HTTP responses.
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import tls from 'node:tls';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, type TrafficResult } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { endingOf } from '../helpers/local-peers.js';
import { Peer } from '../helpers/peer.js';
import { identity, trust } from '../helpers/tls.js';
import { deferred, within } from '../helpers/wait.js';
import { endingAt, made } from './made.js';

nothingIsLeft(test, 'behind each test');

async function portOf(t: ExecutionContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A client and the gateway's end of its TLS session. */
async function session(t: ExecutionContext): Promise<{ client: tls.TLSSocket; gateway: tls.TLSSocket }> {
  const server = tls.createServer({ ...identity, allowHalfOpen: true });
  const port = await portOf(t, server);
  const options = { port, host: '127.0.0.1', allowHalfOpen: true, ...trust };
  const client = tls.connect(options);
  client.on('error', () => undefined);
  t.teardown(() => client.destroy());
  const [[gateway]] = (await Promise.all([
    once(server, 'secureConnection'),
    once(client, 'secureConnect'),
  ])) as [[tls.TLSSocket], unknown];
  t.teardown(() => gateway.destroy());
  return { client, gateway };
}

for (const side of ['a', 'b'] as const) {
  test.serial(`a relay joins a connection as ${side} and a TLS socket`, async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    const { client, gateway } = await session(t);
    const transfer = side === 'a' ? relay(connection, gateway) : relay(gateway, connection);
    client.end('request');
    t.like(await peer.readToEnd(far), { bytes: 7, end: 'eof' });
    await peer.writeText(far, 'an answer');
    await peer.shutdown(far);
    t.is(await within(20_000, 'the answer', text(client)), 'an answer');
    const [tx, rx] = side === 'a' ? [9, 7] : [7, 9];
    t.like(await within(20_000, 'the relay ends', transfer), { tx, rx, engine: 'stream', error: null });
  });
}

test.serial('a reset by the target breaks off the TLS session, and an abort resets the target', async (t) => {
  const peer = Peer.start(t);
  const [first, second] = [await made(t, peer), await made(t, peer)];
  const [one, two] = [await session(t), await session(t)];
  const broken = relay(one.gateway, first.connection);
  await peer.reset(first.far);
  t.like(await failure(t, broken), { code: 'ECONNRESET', side: 'b' });
  t.is(await within(20_000, 'the client sees it', endingOf(one.client)), 'ECONNRESET');

  const aborted = relay(two.gateway, second.connection);
  two.client.write('hello');
  t.is(await peer.readText(second.far, 5), 'hello');
  second.connection.close();
  t.like(await failure(t, aborted), { code: 'ABORT_ERR', side: 'b', traffic: { tx: 5, rx: 0, total: 5 } });
  t.is(await endingAt(peer, second.far), 'reset');
});

test.serial('a relay joins a connection and any duplex stream', async (t) => {
  const peer = Peer.start(t);
  const { connection, far } = await made(t, peer, 'unix');
  // It gives back what it receives.
  const transfer = relay(connection, new PassThrough());
  await peer.writeText(far, 'there and back');
  t.is(await peer.readText(far, 14), 'there and back');
  await peer.shutdown(far);
  t.is(await endingAt(peer, far), 'eof');
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 14, rx: 14, engine: 'stream', error: null });
});

test.serial('a connection works in the kernel again after a transfer on streams', async (t) => {
  const peer = Peer.start(t);
  const [one, two] = [await made(t, peer), await made(t, peer)];
  const sink = new PassThrough();
  const first = copy(one.connection, sink, { length: 5 });
  await peer.writeText(one.far, 'hello, and on');
  t.like(await first, { tx: 5, engine: 'stream' });
  t.is(String(sink.read()), 'hello');
  const transfer = relay(one.connection, two.connection);
  t.is(await peer.readText(two.far, 8), ', and on');
  await Promise.all([peer.shutdown(one.far), peer.shutdown(two.far)]);
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 8, rx: 0, error: null });
});

interface Answer {
  server: (handle: http.RequestListener) => Server;
  get: (port: number) => http.ClientRequest;
  length: boolean;
}

const answers: Record<string, Answer> = {
  'an HTTP response with a Content-Length': {
    server: (handle) => http.createServer(handle),
    get: (port) => http.get({ port, host: '127.0.0.1', agent: false }),
    length: true,
  },
  'a chunked HTTP response': {
    server: (handle) => http.createServer(handle),
    get: (port) => http.get({ port, host: '127.0.0.1', agent: false }),
    length: false,
  },
  'an HTTPS response': {
    server: (handle) => https.createServer(identity, handle),
    get: (port) => https.get({ port, host: '127.0.0.1', agent: false, ...trust }),
    length: true,
  },
};

for (const [name, { server, get, length }] of Object.entries(answers)) {
  test.serial(`copy sends from a connection to ${name}, and leaves the rest in it`, async (t) => {
    const peer = Peer.start(t);
    const { connection, far } = await made(t, peer);
    await peer.writeText(far, 'the body, the rest');
    const { promise: copied, resolve } = deferred<TrafficResult>();
    const port = await portOf(
      t,
      server((_request, response) => {
        if (length) response.setHeader('content-length', 8);
        void copy(connection, response, { length: 8, endDestination: true }).then(resolve);
      }),
    );
    const [answer] = (await within(20_000, 'an answer', once(get(port), 'response'))) as [
      http.IncomingMessage,
    ];
    t.is(await within(20_000, 'the body', text(answer)), 'the body');
    t.like(await copied, { tx: 8, error: null });
    const rest = copy(connection, new PassThrough(), { length: 10 });
    t.like(await within(20_000, 'the rest', rest), { tx: 10 });
  });
}
