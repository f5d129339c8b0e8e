// A seccomp filter or a security module that refuses splice, sendfile and copy_file_range: from the start, or from some call
// on. Every byte arrives by reads and writes, and the counts are right.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { coreTestWithTool } from '../helpers/tools.js';

const REFUSE = fileURLToPath(new URL('../helpers/processes/refuse.py', import.meta.url));
const CALLS = ['splice', 'sendfile', 'copy_file_range'];

/** Transfers between all kinds of ends that these calls serve. Prints their counts, and whether the bytes are right. */
const TRANSFERS = `
  import { createHash } from 'node:crypto';
  import { once } from 'node:events';
  import { openSync, readFileSync, writeFileSync } from 'node:fs';
  import net from 'node:net';
  import { copy, relay, sendFile, stats } from 'fdsplice';

  const bytes = Buffer.alloc(12 * 1024 * 1024 + 1);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt8((at * 2654435761) & 0xff, at);
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const path = (name) => process.argv[1] + '/' + name;
  writeFileSync(path('from'), bytes);

  /** A connection: the near end, and the far end. */
  async function connected() {
    const far = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
    const [[near]] = await Promise.all([once(server, 'connection'), once(far, 'connect')]);
    return [near, far];
  }
  async function received(socket) {
    const chunks = [];
    for await (const chunk of socket) chunks.push(chunk);
    return Buffer.concat(chunks).equals(bytes);
  }
  const report = {};
  const from = openSync(path('from'));
  const files = await copy(from, openSync(path('to'), 'w'), { start: 0, reject: false });
  report.files = [files.tx, files.error?.code, readFileSync(path('to')).equals(bytes)];
  for (const verb of ['sendFile', 'copy']) {
    const [near, far] = await connected();
    const arriving = received(far);
    const options = { endDestination: true, reject: false };
    const sent = verb === 'copy' ? await copy(from, near, { ...options, start: 0 }) : await sendFile(path('from'), near, options);
    report[verb] = [sent.tx, sent.error?.code, await arriving];
    far.destroy();
    near.destroy();
  }
  {
    const [near, far] = await connected();
    far.end(bytes);
    const got = await copy(near, openSync(path('got'), 'w'), { reject: false });
    report.socketToFile = [got.tx, got.error?.code, readFileSync(path('got')).equals(bytes)];
    far.destroy();
    near.destroy();
  }
  {
    const [[a, client], [b, origin]] = [await connected(), await connected()];
    const transfer = relay(a, b, { reject: false });
    const arriving = received(origin);
    client.resume().end(bytes);
    const right = await arriving;
    origin.end();
    const { tx, error } = await transfer;
    report.relay = [tx, error?.code, right];
  }
  report.leased = stats().pipes.leased;
  console.log(JSON.stringify(report));
  process.exit(0);
`;

async function expectAllBytes(t: ExecutionContext, command: string[]): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [program = '', ...args] = [...command, process.execPath, ...nodeArguments(TRANSFERS), directory];
  const { code, stdout, stderr } = await ended(started(t, program, args, ['ignore', 'pipe', 'pipe']));
  t.is(code, 0, stderr);
  const right = [12 * 1024 * 1024 + 1, null, true];
  const names = ['files', 'sendFile', 'copy', 'socketToFile', 'relay'];
  const expected = Object.fromEntries(names.map((name) => [name, right]));
  t.deepEqual(JSON.parse(stdout.toString()), { ...expected, leased: 0 });
}

for (const code of ['EACCES', 'EPERM', 'ENOSYS', 'EOPNOTSUPP']) {
  coreTestWithTool(
    'python3',
    `a seccomp filter that answers ${code} to splice and alike: every byte arrives`,
    (t) => expectAllBytes(t, ['python3', REFUSE, ...CALLS.map((call) => `${call}=${code}`), '--']),
  );
}

coreTestWithTool('python3', 'a seccomp filter that forbids recv and send too: every byte arrives', (t) => {
  const refused = [...CALLS, 'recvfrom', 'sendto'].map((call) => `${call}=EPERM`);
  return expectAllBytes(t, ['python3', REFUSE, ...refused, '--']);
});

for (const code of ['EACCES', 'EPERM', 'EBADF', 'EXDEV']) {
  coreTestWithTool(
    'strace',
    `${code} from the third splice and alike of a transfer on: every byte arrives`,
    (t) => {
      const faults = CALLS.flatMap((call) => ['-e', `inject=${call}:error=${code}:when=3+`]);
      return expectAllBytes(t, [
        'strace',
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-e',
        `trace=${CALLS.join()}`,
        ...faults,
      ]);
    },
  );
}
