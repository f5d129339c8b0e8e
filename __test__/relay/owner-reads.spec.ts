// Owners that go on reading an end after they have handed it to a relay: they get no byte of it.
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';

import test from 'ava';
import { relay } from 'fdsplice';

import { nothingIsLeft } from '../helpers/left.js';
import { until, within } from '../helpers/wait.js';
import { all, listening } from '../streams/ends.js';
import { KINDS, tcp } from './kinds.js';

nothingIsLeft(test, 'behind all tests');

const BULK = Buffer.alloc(3_000_000, 'b');

/** How owners read; each returns the bytes that its owner has got. */
const READERS: Record<string, (stream: Duplex) => Buffer[]> = {
  "a listener for 'readable'": (stream) => {
    const got: Buffer[] = [];
    stream.on('readable', () => {
      for (let chunk = stream.read() as Buffer | null; chunk !== null; chunk = stream.read() as Buffer | null)
        got.push(chunk);
    });
    return got;
  },
  "a listener for 'data'": (stream) => {
    const got: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => got.push(chunk));
    return got;
  },
};

for (const [kind, make] of Object.entries(KINDS)) {
  for (const [name, read] of Object.entries(READERS)) {
    test.serial(`${kind}: ${name} of an end takes no byte from a relay`, async (t) => {
      const { client, a, b, origin } = await make(t);
      const got = read(a);
      client.write('first');
      await until(
        'the owner reads',
        () => Buffer.concat(got).toString(),
        (text) => text === 'first',
      );
      const transfer = relay(a, b);
      const [there, back] = [all(origin), all(client)];
      client.end(BULK);
      origin.end(BULK);
      t.is((await there).length, BULK.length);
      t.is((await back).length, BULK.length);
      t.like(await within(20_000, 'the relay ends', transfer), { tx: BULK.length, error: null });
      t.is(Buffer.concat(got).toString(), 'first');
    });
  }
}

for (const name of ['resume', 'read'] as const) {
  test(`a ${name}() by the owner while the other end connects takes no byte from a relay`, async (t) => {
    const [client, a] = (await tcp(t)) as [net.Socket, net.Socket];
    client.write('request');
    await within(20_000, 'the request is there', once(a, 'readable'));
    const server = net.createServer({ allowHalfOpen: true });
    const port = await listening(t, server);
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const b = net.connect({ port, host: '127.0.0.1' });
    const transfer = relay(a, b);
    a[name]();
    client.end();
    const [origin] = await accepted;
    t.is(String(await all(origin)), 'request');
    origin.end();
    t.like(await within(20_000, 'the relay ends', transfer), { tx: 7, rx: 0, error: null });
  });
}
