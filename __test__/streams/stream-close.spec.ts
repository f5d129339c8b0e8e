// Closing of the ends of a relay on streams: its result must not be available before both ends have emitted 'close'.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { Duplex } from 'node:stream';

import test from 'ava';
import { relay } from 'fdsplice';

/** A stream that is not a socket: it sends `bytes` bytes, ends, and accepts any input. */
function sender(bytes: number): Duplex {
  return new Duplex({
    read() {
      this.push(Buffer.alloc(bytes));
      this.push(null);
    },
    write: (_chunk, _encoding, done) => done(),
  });
}

test('both ends have emitted close when the relay settles', async (t) => {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  server.listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  for (let round = 0; round < 20; round += 1) {
    const ends = [sender(1000), net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })] as const;
    const closed: string[] = [];
    ends[0].on('close', () => closed.push('a'));
    ends[1].on('close', () => closed.push('b'));
    const { tx, rx, engine } = await relay(...ends);
    t.deepEqual([tx, rx, engine, closed.toSorted()], [1000, 1000, 'stream', ['a', 'b']]);
  }
});
