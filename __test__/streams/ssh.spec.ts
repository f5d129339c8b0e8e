// Relays over channels of ssh2. The class of these streams calls `end()` itself when its peer closes a channel; that is the
// end of the channel, and no mistake of its owner.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';

import test, { type ExecutionContext } from 'ava';
import { copy, relay, type TrafficResult } from 'fdsplice';
import ssh2, { type Channel } from 'ssh2';

import { nothingIsLeft } from '../helpers/left.js';
import { within } from '../helpers/wait.js';
import { all, duplexPair, listening } from './ends.js';

nothingIsLeft(test, 'behind all tests');

interface Tunnel {
  /** Opens a channel through the gateway; the result is that of its relay. */
  open: () => Promise<{ channel: Channel; origin: net.Socket; result: Promise<TrafficResult> }>;
  /** Breaks off the connection that carries all channels. */
  breakOff: () => void;
}

/** Connects a channel to a TCP origin. */
type Start = (channel: Channel, origin: net.Socket) => Promise<TrafficResult>;

const relayed: Start = (channel, origin) => relay(channel, origin, { reject: false });

/** An SSH server that connects each channel to a TCP origin, and a client. */
async function tunnel(t: ExecutionContext, start = relayed): Promise<Tunnel> {
  const origin = net.createServer({ allowHalfOpen: true });
  const port = await listening(t, origin);
  const { private: key } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  const results: ((result: Promise<TrafficResult>) => void)[] = [];
  let carrier: net.Socket | undefined;
  const server = new ssh2.Server({ hostKeys: [key] }, (client) => {
    client.on('error', () => {});
    client.on('authentication', (attempt) => attempt.accept());
    client.on('tcpip', (accept) => {
      const socket = net.connect({ port, host: '127.0.0.1' });
      t.teardown(() => socket.destroy());
      results.shift()?.(start(accept(), socket));
    });
  });
  const gateway = net.createServer((socket) => {
    carrier = socket;
    server.injectSocket(socket);
  });
  const client = new ssh2.Client();
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  client.connect({ host: '127.0.0.1', port: await listening(t, gateway), username: 'any' });
  await within(20_000, 'the client is connected', once(client, 'ready'));
  return {
    async open() {
      const result = new Promise<TrafficResult>((resolve) => results.push((made) => resolve(made)));
      const accepted = once(origin, 'connection');
      const channel = await new Promise<Channel>((resolve, reject) =>
        client.forwardOut('127.0.0.1', 1, '127.0.0.1', port, (error, made) => {
          if (error === undefined) resolve(made);
          else reject(error);
        }),
      );
      const [socket] = (await within(20_000, 'the origin is connected', accepted)) as [net.Socket];
      socket.on('error', () => {});
      t.teardown(() => socket.destroy());
      return { channel, origin: socket, result };
    },
    breakOff: () => carrier?.destroy(),
  };
}

test('a tunnel over an SSH channel whose client closes it after the answer ends cleanly, with all counts', async (t) => {
  const { open } = await tunnel(t);
  const { channel, origin, result } = await open();
  channel.write('request');
  t.is(String((await once(origin, 'data'))[0]), 'request');
  origin.write('answer');
  t.is(String((await once(channel, 'data'))[0]), 'answer');
  channel.close();
  await within(20_000, 'the origin sees the end', once(origin, 'end'));
  origin.end();
  t.like(await within(20_000, 'the relay ends', result), { tx: 7, rx: 6, error: null });
});

test('a tunnel over an SSH channel whose origin ends first ends cleanly, with all counts', async (t) => {
  const { open } = await tunnel(t);
  const { channel, origin, result } = await open();
  const [there, back] = [all(origin), all(channel)];
  channel.write('request');
  await once(origin, 'data');
  origin.end('answer');
  t.is(String(await back), 'answer');
  channel.end();
  t.is(String(await there), 'request');
  t.like(await within(20_000, 'the relay ends', result), { tx: 7, rx: 6, error: null });
});

test('a tunnel over an SSH channel in both half-closes passes the request and the whole answer on', async (t) => {
  const { open } = await tunnel(t);
  const { channel, origin, result } = await open();
  const [there, back] = [all(origin), all(channel)];
  channel.end('request');
  t.is(String(await there), 'request');
  const answer = Buffer.alloc(3_000_000, 'a');
  origin.end(answer);
  t.is((await back).length, answer.length);
  t.like(await within(20_000, 'the relay ends', result), { tx: 7, rx: answer.length, error: null });
});

test('bytes for an SSH channel that its client has closed fail the relay, and the confirmed counts stay', async (t) => {
  const { open } = await tunnel(t);
  const { channel, origin, result } = await open();
  const broken = new Promise<NodeJS.ErrnoException>((resolve) => origin.on('error', resolve));
  channel.write('request');
  await once(origin, 'data');
  origin.write('answer');
  await once(channel, 'data');
  channel.close();
  await within(20_000, 'the origin sees the end', once(origin, 'end'));
  origin.write('too late');
  t.like(await within(20_000, 'the relay ends', result), { tx: 7, rx: 6, error: { side: 'a' } });
  // Node reads no further after an end of input, so only a write shows the reset.
  origin.write('more');
  t.regex((await within(20_000, 'the origin is reset', broken)).code ?? '', /^(ECONNRESET|EPIPE)$/);
});

test('an SSH channel whose connection breaks fails its relay, and the origin is reset', async (t) => {
  const { open, breakOff } = await tunnel(t);
  const { channel, origin, result } = await open();
  channel.on('error', () => {});
  const ending = new Promise<string>((resolve) => {
    origin.on('end', () => resolve('eof'));
    origin.on('error', ({ code = '' }: NodeJS.ErrnoException) => resolve(code));
  });
  channel.write('request');
  await once(origin, 'data');
  origin.write('answer');
  await once(channel, 'data');
  breakOff();
  t.like(await within(20_000, 'the relay ends', result), {
    tx: 7,
    rx: 6,
    error: { code: 'ECONNRESET', side: 'a' },
  });
  t.is(await within(20_000, 'the origin sees an end', ending), 'ECONNRESET');
});

const BYTES = Buffer.alloc(30_000, 'b');

/** Slow enough that the channel has bytes left when its connection breaks. */
const copied: Start = (channel, origin) =>
  copy(channel, origin, { endDestination: true, reject: false, rateLimit: 20_000 });

test('a copy from an SSH channel whose connection breaks fails', async (t) => {
  const { open, breakOff } = await tunnel(t, copied);
  const { channel, origin, result } = await open();
  channel.on('error', () => {});
  channel.write(BYTES);
  await once(origin, 'data');
  breakOff();
  t.like(await within(20_000, 'the copy ends', result), { error: { code: 'ECONNRESET', side: 'source' } });
  t.false(origin.readableEnded);
});

test('a copy from an SSH channel that had ended before its connection breaks is complete', async (t) => {
  const { open, breakOff } = await tunnel(t, copied);
  const { channel, origin, result } = await open();
  channel.on('error', () => {});
  const there = all(origin);
  await new Promise<void>((resolve) => channel.write(BYTES, () => resolve()));
  channel.eof();
  await once(origin, 'data');
  breakOff();
  t.like(await within(20_000, 'the copy ends', result), { tx: BYTES.length, error: null });
  t.is((await there).length, BYTES.length);
});

/** The relay takes over from pipes, amid bulk. */
const piped: Start = (channel, origin) =>
  new Promise((resolve) => {
    let seen = 0;
    channel.on('data', (chunk: Buffer) => {
      seen += chunk.length;
      if (seen < 500_000) return;
      seen = -Infinity;
      resolve(relay(channel, origin, { reject: false }));
    });
    channel.pipe(origin).pipe(channel);
  });

test('a relay takes over from the pipes between an SSH channel and its origin, and no byte is lost', async (t) => {
  const { open } = await tunnel(t, piped);
  const { channel, origin, result } = await open();
  const [there, back] = [all(origin), all(channel)];
  const bulk = randomBytes(3_000_000);
  channel.end(bulk);
  t.true((await there).equals(bulk));
  origin.end(bulk);
  t.true((await back).equals(bulk));
  const { tx, rx, error } = await within(20_000, 'the relay ends', result);
  t.is(error, null);
  t.true(tx <= bulk.length - 500_000);
  t.is(rx, bulk.length);
});

test('a duplex stream that ends itself when its input ends is relayed, with all counts', async (t) => {
  const [client, a] = duplexPair();
  const [b, origin] = duplexPair();
  a.on('end', () => a.end());
  const transfer = relay(a, b);
  client.end('request');
  t.is(String(await all(origin)), 'request');
  origin.end('answer');
  t.is(String(await all(client)), 'answer');
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: 6, error: null });
});
