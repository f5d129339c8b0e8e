// How the stream engine lets go of the ends of a relay.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { Duplex } from 'node:stream';

import test from 'ava';
import { relay } from 'fdsplice';

/** A stream that is no socket: it says so much, ends, and takes whatever comes. */
function talker(bytes: number): Duplex {
  return new Duplex({
    read() {
      this.push(Buffer.alloc(bytes));
      this.push(null);
    },
    write: (_chunk, _encoding, done) => done(),
  });
}

test('both ends have said that they are closed when the relay settles', async (t) => {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  for (let round = 0; round < 20; round += 1) {
    const ends = [talker(1000), net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })] as const;
    const closed: string[] = [];
    ends[0].on('close', () => closed.push('a'));
    ends[1].on('close', () => closed.push('b'));
    const { tx, rx, engine } = await relay(...ends);
    t.deepEqual([tx, rx, engine, closed.toSorted()], [1000, 1000, 'stream', ['a', 'b']]);
  }
});
