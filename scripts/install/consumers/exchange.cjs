// Relays random bytes both ways between real sockets with the given module, and prints the result as JSON.
// Every bundler can include this file: esbuild gives a CommonJS module in an ES module no `require`.
const { createHash, randomBytes } = process.getBuiltinModule('node:crypto');
const { once } = process.getBuiltinModule('node:events');
const net = process.getBuiltinModule('node:net');

const SIZE = 3 * 1024 * 1024 + 7;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

exports.exchange = async ({ capabilities, relay, TransferError }, more = {}) => {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const pair = async () => {
    const accepted = once(server, 'connection');
    const far = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
    return [(await accepted)[0], far];
  };
  const [a, client] = await pair();
  const [b, origin] = await pair();

  const [up, down] = [randomBytes(SIZE), randomBytes(SIZE + 1)];
  const transfer = relay(a, b);
  client.end(up);
  origin.end(down);
  const read = async (socket) => sha256(Buffer.concat(await socket.toArray()));
  const [atOrigin, atClient] = await Promise.all([read(origin), read(client)]);
  const { tx, rx, engine, error } = await transfer;
  const late = await relay(a, b, { reject: false });
  server.close();

  const result = {
    node: process.version,
    capabilities: capabilities(),
    isExact: tx === SIZE && rx === SIZE + 1 && error === null,
    isIntact: atOrigin === sha256(up) && atClient === sha256(down),
    isTransferError: late.error instanceof TransferError,
    engine,
    ...more,
  };
  console.log(JSON.stringify(result));
  return result;
};
