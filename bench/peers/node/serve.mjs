// The server of the Node relays: arguments, accepting, connecting.
import { connect, createServer } from 'node:net';
import { parseArgs } from 'node:util';

export const { values: settings } = parseArgs({
  options: {
    listen: { type: 'string' },
    target: { type: 'string' },
    package: { type: 'string' },
    'rate-limit': { type: 'string' },
    'read-write': { type: 'boolean' },
  },
});

/** Accepts forever and passes each connection and its upstream to `relay`, half-open and with TCP_NODELAY. */
export function serve(relay, { pauseOnConnect = false } = {}) {
  const [host, port] = split(settings.listen);
  const [targetHost, targetPort] = split(settings.target);
  const half = { allowHalfOpen: true, noDelay: true };
  const server = createServer({ ...half, pauseOnConnect }, (client) => {
    relay(client, connect({ ...half, host: targetHost, port: targetPort }));
  });
  server.listen({ host, port, backlog: 1024 }, () => console.log(`listening ${server.address().port}`));
}

/** Codes of a peer that has reset its connection or gone: everyday business. */
const everyday = ['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'];

/** Prints the error of a relay. A line for each reset would be part of the measured cost. */
export function report(error) {
  if (!everyday.includes(error.code)) console.error(String(error));
}

function split(address) {
  const colon = address.lastIndexOf(':');
  return [address.slice(0, colon), Number(address.slice(colon + 1))];
}
