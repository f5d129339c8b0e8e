// The client of the demo: `client.mjs <port> <bytes>` makes one connection and reports on stdout the bytes that pass
// through it.
import { once } from 'node:events';
import { connect } from 'node:net';
import { exchange } from './exchange.mjs';
import { writeEvent } from './events.mjs';

const [port, bytes] = process.argv.slice(2).map(Number);

const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
await once(socket, 'connect');
const report = (sent, received) => writeEvent('progress', { sent, received });
writeEvent('done', await exchange(socket, 'client', bytes, report));
