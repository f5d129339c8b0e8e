// Calls of `end()` that the owner of a socket makes while a relay runs: the side is ended after the bytes that have arrived
// for it, or, if its input has ended, when the other side ends. Neither loses a byte.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';

import test from 'ava';
import { relay } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { until, within } from '../helpers/wait.js';
import { all } from '../streams/ends.js';
import { KINDS, overTls, tcp, unix } from './kinds.js';

nothingIsLeft(test, 'behind all tests');

async function received(stream: Duplex, text: string): Promise<void> {
  let got = '';
  stream.on('data', (chunk: Buffer) => (got += chunk.toString()));
  await until(
    `'${text}' arrives`,
    () => got,
    (value) => value === text,
  );
}

for (const [kind, make] of Object.entries(KINDS)) {
  test(`${kind}: an end() in a listener for the end of input loses no byte of the answer`, async (t) => {
    const { client, a, b, origin } = await make(t);
    for (const socket of [a, b]) socket.on('end', () => socket.end());
    const transfer = relay(a, b);
    const [there, back] = [all(origin), all(client)];
    client.end('request');
    t.is(String(await there), 'request');
    for (let turns = 0; turns < 20; turns += 1) await turn();
    const answer = Buffer.alloc(2_000_000, 'a');
    origin.end(answer);
    t.is((await back).length, answer.length);
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: answer.length, error: null });
  });

  test(`${kind}: an end() by the owner ends that side after the bytes that have arrived for it`, async (t) => {
    const { client, a, b, origin } = await make(t);
    const transfer = relay(a, b);
    const clientEnds = once(client, 'end');
    origin.write('answer');
    await received(client, 'answer');
    const called = new Promise<void>((resolve) => a.end(resolve));
    await within(20_000, 'the client sees the end', clientEnds);
    const there = all(origin);
    client.end('thanks');
    t.is(String(await there), 'thanks');
    origin.end();
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 6, rx: 6, error: null });
    await within(20_000, 'the callback is called', called);
  });

  test(`${kind}: an end() by the owner while bytes wait for a limiter delivers all that have arrived`, async (t) => {
    const { client, a, b, origin } = await make(t);
    const transfer = relay(a, b, { rateLimit: 100_000 });
    // Few enough for the first window of TCP, so that all of them have arrived.
    const bytes = Buffer.alloc(50_000, 'b');
    origin.write(bytes);
    await until('some bytes are delivered', () => transfer.traffic.rx, Boolean);
    a.end();
    t.is((await all(client)).length, bytes.length);
    client.end();
    origin.end();
    t.like(await within(20_000, 'the relay ends', transfer), { rx: bytes.length, error: null });
  });

  test(`${kind}: bytes for a side that its owner has ended fail the relay, and the counts stay`, async (t) => {
    const { client, a, b, origin } = await make(t);
    const transfer = relay(a, b, { reject: false });
    for (const stream of [client, origin]) stream.on('error', () => {});
    const clientEnds = once(client, 'end');
    origin.write('answer');
    await received(client, 'answer');
    a.end();
    await within(20_000, 'the client sees the end', clientEnds);
    origin.write('too late');
    const result = await within(20_000, 'the relay ends', transfer);
    t.like(result, { tx: 0, rx: 6, error: { code: 'EPIPE', side: 'a' } });
  });

  test(`${kind}: a destroySoon() by the owner ends that side as an end() does`, async (t) => {
    const { client, a, b, origin } = await make(t);
    // Other streams have no such method.
    if (!(a instanceof net.Socket)) {
      t.pass();
      return;
    }
    const transfer = relay(a, b);
    const answer = Buffer.alloc(300_000, 'a');
    const back = all(client);
    origin.write(answer);
    await until(
      'the answer arrives',
      () => transfer.traffic.rx,
      (bytes) => bytes === answer.length,
    );
    a.destroySoon();
    t.is((await back).length, answer.length);
    const there = all(origin);
    client.end('thanks');
    t.is(String(await there), 'thanks');
    origin.end();
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 6, rx: answer.length, error: null });
  });

  test(`${kind}: an end() with data fails the relay, as a write does`, async (t) => {
    const { client, a, b, origin } = await make(t);
    for (const stream of [client, origin]) stream.on('error', () => {});
    const transfer = relay(a, b, { reject: false });
    a.end('intruder');
    const result = await within(20_000, 'the relay ends', transfer);
    t.like(result, { error: { code: 'ERR_INVALID_STATE', side: 'a' } });
  });
}

test('an end() before the other side has connected ends that side once the relay has started', async (t) => {
  const [client, a] = await tcp(t);
  const server = net.createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const b = net.connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
  const transfer = relay(a, b);
  a.end();
  const [origin] = await accepted;
  await within(20_000, 'the client sees the end', once(client.resume(), 'end'));
  client.end('request');
  t.is(String(await all(origin)), 'request');
  origin.end();
  t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: 0, error: null });
});

test('an end() in a listener for the idle timeout ends that side', async (t) => {
  for (const make of [tcp, unix, overTls]) {
    const [client, a] = await make(t);
    const [origin, b] = await tcp(t);
    (a as net.Socket).setTimeout(100, () => a.end());
    const transfer = relay(a, b);
    await within(20_000, 'the client sees the end', once(client.resume(), 'end'));
    const there = all(origin);
    client.end('request');
    t.is(String(await there), 'request');
    origin.end();
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: 0, error: null });
  }
});
