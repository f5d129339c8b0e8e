// FDSPLICE_LOG: which filters log, what a log line of a transfer contains, and that no payload is ever logged.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

import { ended, nodeArguments, type Ended } from '../helpers/copy-child.js';
import { coreTest as test } from '../helpers/engine.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Runs one transfer of each verb, and a relay that is aborted. */
const PROGRAM = `
  import { once } from 'node:events';
  import { openSync } from 'node:fs';
  import net from 'node:net';
  import { copy, relay, sendFile } from 'fdsplice';

  const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const pair = async () => {
    const accepted = once(server, 'connection');
    const far = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
    far.on('error', () => {});
    const [near] = await accepted;
    return [near, far];
  };
  const [[a, client], [b, origin]] = [await pair(), await pair()];
  const transfer = relay(a, b);
  client.end('hello');
  origin.resume().end();
  client.resume();
  const { tx } = await transfer;
  const [[c], [d, reader]] = [await pair(), await pair()];
  reader.resume();
  const sent = await sendFile(process.execPath, d, { end: 9 });
  const copied = await copy(openSync(process.execPath), openSync('/dev/null', 'w'), { length: 7 });
  const aborted = relay(c, d, { reject: false });
  aborted.abort();
  const { error } = await aborted;
  console.log(JSON.stringify([tx, sent.tx, copied.tx, error.code]));
  process.exit(0);
`;

/** Aborts a copy to a full destination while it holds undelivered bytes. */
const STUCK = `
  import { once } from 'node:events';
  import net from 'node:net';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { copy } from 'fdsplice';

  const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const pair = async () => {
    const accepted = once(server, 'connection');
    const far = net.connect({ port: server.address().port, host: '127.0.0.1' }).pause();
    return [(await accepted)[0], far];
  };
  const [[source, sender], [destination]] = [await pair(), await pair()];
  sender.write(Buffer.alloc(32 << 20, 'secret'));
  const numbers = [source._handle.fd, destination._handle.fd];
  const transfer = copy(...numbers, { reject: false });
  let last = -1;
  while (transfer.traffic.tx !== last) {
    last = transfer.traffic.tx;
    await sleep(300);
  }
  transfer.abort();
  const { error } = await transfer;
  console.log(error.undelivered.length > 1000);
  process.exit(0);
`;

async function run(
  t: ExecutionContext,
  env: NodeJS.ProcessEnv,
  program = PROGRAM,
  stdout = '[5,10,7,"ABORT_ERR"]\n',
): Promise<Ended> {
  const { FDSPLICE_LOG: _, ...rest } = process.env;
  const child = spawn(process.execPath, nodeArguments(program), {
    cwd: ROOT,
    env: { ...rest, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const result = await ended(child);
  t.is(result.code, 0, result.stderr);
  // The log never goes to stdout.
  t.is(result.stdout.toString(), stdout);
  return result;
}

for (const [name, env] of [
  ['without FDSPLICE_LOG', {}],
  ['with FDSPLICE_LOG=off', { FDSPLICE_LOG: 'off' }],
  ['with FDSPLICE_LOG=""', { FDSPLICE_LOG: '' }],
  ['with a filter for another module', { FDSPLICE_LOG: 'another_module=trace' }],
  ["with another library's variable", { RUST_LOG: 'trace', FDSPLICE_LOG: undefined }],
] as const) {
  test(`nothing is logged ${name}`, async (t) => {
    t.is((await run(t, env)).stderr, '');
  });
}

for (const filter of ['debug', 'fdsplice=debug', 'trace', 'warn,fdsplice=debug']) {
  test(`FDSPLICE_LOG=${filter} logs each transfer with its kinds, its counts and its outcome`, async (t) => {
    const { stderr } = await run(t, { FDSPLICE_LOG: filter });
    t.log(stderr);
    // eslint-disable-next-line no-control-regex -- the sequence that must not appear
    t.notRegex(stderr, /\x1b\[/, 'no colours without a terminal');
    const lines = stderr.trim().split('\n');
    const about = (span: RegExp) => lines.filter((line) => span.test(line) && /\bended\b/.test(line));
    const relays = about(/relay\{/);
    t.is(relays.length, 2, stderr);
    t.regex(relays[0] ?? '', /a=Tcp\b.*b=Tcp\b.*tx=5\b.*rx=0\b.*error=None/i);
    t.regex(relays[1] ?? '', /a=Tcp\b.*b=Tcp\b.*error=Some.*abort/i);
    const [sent, ...more] = about(/send_file\{/);
    t.regex(sent ?? '', /destination=Tcp\b.*tx=10\b.*error=None/i);
    const [copied, ...others] = about(/copy\{/);
    t.regex(copied ?? '', /source=File\b.*destination=\w+.*tx=7\b.*error=None/i);
    t.deepEqual([...more, ...others], []);
  });
}

for (const filter of ['fdsplice=loud', 'debug,=', 'a=b=c', '[']) {
  test(`FDSPLICE_LOG=${filter} prints one line that names the error`, async (t) => {
    const { stderr } = await run(t, { FDSPLICE_LOG: filter });
    t.regex(stderr, /^fdsplice: FDSPLICE_LOG [^\n]+\n$/);
  });
}

test('the bytes of a transfer are never logged', async (t) => {
  const { stderr } = await run(t, { FDSPLICE_LOG: 'trace' }, STUCK, 'true\n');
  t.log(stderr.slice(0, 300));
  t.regex(stderr, /copy\{.*ended/);
  t.true(stderr.length < 4_000, `${stderr.length} characters of log`);
});
