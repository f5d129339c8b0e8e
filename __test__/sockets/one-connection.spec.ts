// One connection as both standard input and standard output, as under inetd: a copy from it to itself is rejected by name,
// whatever kind of connection it is and however it is passed.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { copy, relay } from 'fdsplice';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { isNative } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { duplexPair } from '../streams/ends.js';

nothingIsLeft(test, 'behind all tests');

const CALLS = [
  'copy(process.stdin, process.stdout)',
  'copy(0, 1)',
  'copy(0, process.stdout)',
  'copy(process.stdin, 1)',
  'copy(0, 0)',
  'relay(0, 1)',
];

/** Prints the code and the message of each call's error, one a line, on standard error. */
const PROGRAM = `
import { copy, relay } from 'fdsplice';
for (const call of [${CALLS.map((call) => `() => ${call}`).join()}]) {
  const error = await call().catch((error) => error);
  console.error(error.code, '|', error.message ?? 'it succeeded');
}
process.exit();
`;

function directory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

async function accepted(t: ExecutionContext, options: net.ListenOptions): Promise<net.Socket> {
  const server = net.createServer({ pauseOnConnect: true });
  server.listen(options);
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const address = server.address() as AddressInfo | string;
  const client = net.connect(typeof address === 'string' ? { path: address } : { port: address.port });
  t.teardown(() => client.destroy());
  const [socket] = (await once(server, 'connection')) as [net.Socket];
  t.teardown(() => socket.destroy());
  client.write('hello');
  return socket;
}

const CONNECTIONS: Record<string, (t: ExecutionContext) => Promise<net.Socket | number>> = {
  'a TCP connection': (t) => accepted(t, { port: 0, host: '127.0.0.1' }),
  'a Unix connection': (t) => accepted(t, { path: join(directory(t), 's') }),
  'a FIFO open for reading and writing': (t) => {
    const path = join(directory(t), 'fifo');
    execFileSync('mkfifo', [path]);
    const fd = openSync(path, constants.O_RDWR);
    t.teardown(() => closeSync(fd));
    return Promise.resolve(fd);
  },
};

for (const [kind, connect] of Object.entries(CONNECTIONS)) {
  test(`a copy of ${kind} to itself is rejected, however it is passed`, async (t) => {
    const connection = await connect(t);
    const child = started(t, process.execPath, nodeArguments(PROGRAM), [connection, connection, 'pipe']);
    const { stderr } = await ended(child);
    const lines = stderr.trim().split('\n');
    t.is(lines.length, CALLS.length, stderr);
    for (const [index, call] of CALLS.entries()) {
      const [code = '', message = ''] = (lines[index] ?? '').split(' | ');
      const usesNumber = /[01]/.test(call);
      if (usesNumber && !isNative) {
        t.is(code, 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM', call);
      } else if (call.startsWith('relay') && kind.includes('FIFO')) {
        t.regex(message, /must be a connected stream socket/, call);
      } else {
        t.is(code, 'ERR_INVALID_ARG_VALUE', `${call}: ${message}`);
        t.regex(message, /^"(destination|b)" must not be the same socket as (source|a)$/, call);
      }
    }
  });
}

test('a relay or copy of a stream to itself is rejected, and the stream stays usable', async (t) => {
  const rejected = { instanceOf: TypeError, code: 'ERR_INVALID_ARG_VALUE', message: /the same socket/ };
  const socket = await accepted(t, { port: 0, host: '127.0.0.1' });
  const [, stream] = duplexPair();
  for (const end of [socket, stream]) {
    await t.throwsAsync(relay(end, end, { reject: false }), rejected);
    await t.throwsAsync(copy(end, end, { reject: false }), rejected);
    t.false(end.destroyed);
  }
});
