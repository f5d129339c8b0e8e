// The program of a test in which a thread of the core panics: strace makes one of its calls of epoll_wait fail. It joins
// two connections, exchanges messages until the relay ends, and prints how it ended; then it relays once more.
import { once } from 'node:events';
import net from 'node:net';

import { relay, stats } from 'fdsplice';

const half = { allowHalfOpen: true };
const server = net.createServer({ ...half, pauseOnConnect: true }).listen(0, '127.0.0.1');
await once(server, 'listening');
const meet = async () => {
  const outer = net.connect({ ...half, port: server.address().port, host: '127.0.0.1' });
  const [[inner]] = await Promise.all([once(server, 'connection'), once(outer, 'connect')]);
  return [outer, inner];
};
const print = (...values) => console.log(JSON.stringify(values));
process.on('uncaughtException', (error) => print('uncaught', error.message));

/** Relays, and sends up to `messages` messages in each direction. */
const exchange = async (messages) => {
  const [client, a] = await meet();
  const [origin, b] = await meet();
  const seen = [];
  const closed = [client, origin].map((socket) => {
    socket.on('error', ({ code }) => seen.push(code));
    return new Promise((resolve) => socket.on('close', resolve));
  });
  origin.on('data', (data) => origin.write(data)).on('end', () => origin.end());
  const ending = relay(a, b, { reject: false });
  let sent = 0;
  const send = () => (sent++ < messages ? client.write('message') : client.end());
  client.on('data', send);
  send();
  const { total, error } = await ending;
  if (error !== null) await Promise.all(closed);
  print(
    error?.code ?? null,
    error?.message.replace(/\d+ bytes/, 'n bytes') ?? null,
    a.destroyed && b.destroyed,
    seen,
  );
  return total;
};
await exchange(Infinity);
const { active, failed } = stats();
print(active, failed);
print(await exchange(2));
process.exit(0);
