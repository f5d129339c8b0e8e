// HTTP/2 streams that are cancelled. Node ends such a stream as after a clean end, and only its state shows the difference;
// a transfer must not pass that on as a complete stream.
import { once } from 'node:events';
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type ServerHttp2Stream } from 'node:http2';
import net from 'node:net';
import { PassThrough } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, type Transfer } from 'fdsplice';

import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';
import { all, listening, sink } from './ends.js';

nothingIsLeft(test, 'behind all tests');

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;

interface Accepted {
  session: ClientHttp2Session;
  client: ClientHttp2Stream;
  stream: ServerHttp2Stream;
}

/** A CONNECT stream, on both ends. */
async function connect(t: ExecutionContext): Promise<Accepted> {
  const server = http2.createServer();
  const session = http2.connect(`http://127.0.0.1:${await listening(t, server)}`);
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  const client = session.request({ ':method': 'CONNECT', ':authority': 'origin:443' });
  client.on('error', () => {});
  const [stream] = (await within(20_000, 'the stream is open', once(server, 'stream'))) as [
    ServerHttp2Stream,
  ];
  stream.respond({ ':status': 200 });
  return { session, client, stream };
}

interface Tunnel extends Accepted {
  transfer: Transfer;
  peer: Peer;
  conn: number;
}

/** A relay from a CONNECT stream to a TCP origin. */
async function tunnel(t: ExecutionContext): Promise<Tunnel> {
  const peer = Peer.start(t);
  const { listener, port } = await peer.listen({ port: 0 });
  const accepted = await connect(t);
  const transfer = relay(accepted.stream, net.connect(port, '127.0.0.1'));
  transfer.catch(() => {});
  const { conn } = await peer.accept(listener);
  return { ...accepted, transfer, peer, conn };
}

const CANCELLATIONS: Record<string, (accepted: Accepted) => unknown> = {
  'with CANCEL': ({ client }) => client.close(NGHTTP2_CANCEL),
  'with INTERNAL_ERROR': ({ client }) => client.close(NGHTTP2_INTERNAL_ERROR),
  'by destroying it': ({ client }) => client.destroy(),
  'with NO_ERROR before its end': ({ client }) => client.close(NGHTTP2_NO_ERROR),
  'by destroying its session': ({ session }) => session.destroy(),
};

for (const [how, cancel] of Object.entries(CANCELLATIONS)) {
  test(`the origin of an HTTP/2 tunnel that its client cancels ${how} sees a reset`, async (t) => {
    const made = await tunnel(t);
    const { client, transfer, peer, conn } = made;
    client.write('request');
    await peer.writeText(conn, 'answer');
    t.is(String((await once(client, 'data'))[0]), 'answer');
    const ending = peer.readToEnd(conn);
    await until(
      'the request arrives',
      () => transfer.traffic.tx,
      (bytes) => bytes === 7,
    );
    cancel(made);
    t.like(await failure(t, transfer), { side: 'a', traffic: { tx: 7, rx: 6 } });
    t.like(await ending, { end: 'reset', bytes: 7 });
  });
}

test('an HTTP/2 tunnel that its client cancels after the end of its input resets the origin', async (t) => {
  const { client, transfer, peer, conn } = await tunnel(t);
  client.end('request');
  t.is((await peer.readToEnd(conn)).end, 'eof');
  client.close(NGHTTP2_CANCEL);
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'a', traffic: { tx: 7 } });
});

test('an HTTP/2 tunnel that both sides end is complete', async (t) => {
  const { client, transfer, peer, conn } = await tunnel(t);
  const back = all(client);
  client.end('request');
  t.like(await peer.readToEnd(conn), { end: 'eof', bytes: 7 });
  await peer.writeText(conn, 'answer');
  await peer.shutdown(conn);
  t.is(String(await back), 'answer');
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: 6, error: null });
});

test('a copy from an HTTP/2 stream that its client cancels fails', async (t) => {
  const { client, stream } = await connect(t);
  const { stream: destination, bytes } = sink();
  const transfer = copy(stream, destination);
  client.write('half');
  await until(
    'a half arrives',
    () => bytes().length,
    (count) => count === 4,
  );
  client.close(NGHTTP2_CANCEL);
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'source', traffic: { tx: 4 } });
});

test('a copy from the request of an HTTP/2 compatibility server that its client cancels fails', async (t) => {
  const server = http2.createServer();
  const session = http2.connect(`http://127.0.0.1:${await listening(t, server)}`);
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  const client = session.request({ ':method': 'POST' });
  client.on('error', () => {});
  client.write('half');
  const [request] = (await once(server, 'request')) as [http2.Http2ServerRequest];
  const { stream: destination, bytes } = sink();
  const transfer = copy(request, destination);
  await until(
    'a half arrives',
    () => bytes().length,
    (count) => count === 4,
  );
  client.close(NGHTTP2_CANCEL);
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'source', traffic: { tx: 4 } });
});

test('a copy to an HTTP/2 stream that its client cancels fails', async (t) => {
  const { client, stream } = await connect(t);
  const source = new PassThrough();
  const transfer = copy(source, stream, { endDestination: true });
  source.write('half');
  t.is(String((await once(client, 'data'))[0]), 'half');
  client.close(NGHTTP2_CANCEL);
  t.like(await failure(t, transfer), { code: 'ECONNRESET', side: 'destination', traffic: { tx: 4 } });
});
