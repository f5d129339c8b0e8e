// Details of the contract of copy and sendFile: the fields of errors, the names of arguments in messages, and the standard
// streams, which stay open.
import { constants, readFileSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { copy, sendFile, TransferError } from 'fdsplice';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { directory, MiB, opened, sample } from '../helpers/copy-files.js';
import { engine, nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';

test('an error has no fields for values that do not exist', async (t) => {
  const { path } = sample(t, 5000);
  const aborted = await failure(
    t,
    copy(opened(t, path), opened(t, join(directory(t), 'copy'), 'w'), { signal: AbortSignal.abort() }),
  );
  t.true(aborted instanceof TransferError);
  for (const name of ['errno', 'syscall', 'side', 'undelivered']) t.false(name in aborted, name);
  const missing = await failure(t, sendFile(`${path}!`, opened(t, path, 'r+')));
  t.like(missing, { code: 'ENOENT', syscall: 'open', side: 'source' });
  t.false('undelivered' in missing);
});

nativeTest('undelivered is present when bytes were held, and absent otherwise', async (t) => {
  const full = opened(t, '/dev/full', 'w');
  // The position of a file is set back to the first undelivered byte; a device has no position.
  t.false('undelivered' in (await failure(t, copy(opened(t, sample(t, 5000).path), full))));
  const { undelivered } = await failure(t, copy(opened(t, '/dev/zero'), full, { length: 100 }));
  t.deepEqual(undelivered, Buffer.alloc(100));
});

nativeTest('bytes held from a destroyed source are in undelivered', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  // A buffer is certain to hold undelivered bytes, because the other end does not read.
  const transfer = copy(a, b, { reject: false, zeroCopy: false });
  void peer.write(client, 64 * MiB, 1).catch(() => {});
  for (let last = -1; transfer.traffic.tx !== last || last === 0; await sleep(500))
    last = transfer.traffic.tx;
  a.destroy();
  const { error } = await transfer;
  t.is(error?.code, 'ABORT_ERR');
  t.true((error?.undelivered?.length ?? 0) > 0);
});

test('errors about the file of sendFile name the argument "file"', async (t) => {
  const { path } = sample(t, 10);
  const into = opened(t, join(directory(t), 'copy'), 'w');
  for (const [file, code] of [
    [opened(t, path, constants.O_WRONLY), 'ERR_INVALID_ARG_VALUE'],
    [2 ** 30, 'EBADF'],
    [-5, 'ERR_OUT_OF_RANGE'],
    ['a\0b', 'ERR_INVALID_ARG_VALUE'],
    [new URL('file://host/etc/passwd'), 'ERR_INVALID_FILE_URL_HOST'],
  ] as const) {
    const error = await t.throwsAsync<NodeJS.ErrnoException>(sendFile(file, into));
    t.is(error?.code, code);
    t.regex(error?.message ?? '', /"file"/);
  }
});

test('end: Infinity means the end of the file, as in fs.createReadStream', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const copied = join(directory(t), 'copy');
  t.is((await sendFile(path, opened(t, copied, 'w'), { start: 10, end: Infinity })).tx, 990);
  t.deepEqual(readFileSync(copied), bytes.subarray(10));
});

test('the result of a transfer that never started names the engine it would have used', async (t) => {
  const { path } = sample(t, 10);
  const { engine: native } = await sendFile(`${path}!`, opened(t, path, 'r+'), { reject: false });
  t.is(native, engine);
  const gone = new PassThrough().destroy();
  t.is((await copy(opened(t, path), gone, { reject: false })).engine, 'stream');
  t.is((await sendFile(path, gone, { reject: false })).engine, 'stream');
});

test('a socket that was never connected is rejected', async (t) => {
  const file = opened(t, sample(t, 10).path, 'r+');
  for (const transfer of [copy(new Socket(), file), copy(file, new Socket())]) {
    const error = await t.throwsAsync<NodeJS.ErrnoException>(transfer);
    t.is(error?.code, 'ERR_INVALID_ARG_VALUE');
  }
});

test('web streams are rejected with the remedy in the message', async (t) => {
  const file = opened(t, sample(t, 10).path, 'r+');
  for (const web of [new ReadableStream(), new WritableStream(), new TransformStream()] as never[]) {
    for (const transfer of [copy(web, file), copy(file, web)]) {
      const error = await t.throwsAsync<NodeJS.ErrnoException>(transfer);
      t.is(error?.code, 'ERR_INVALID_ARG_TYPE');
      t.regex(error?.message ?? '', /Readable\.fromWeb/);
    }
  }
});

/** Runs a program in a process of its own, with standard streams redirected by a shell. */
async function inShell(t: Parameters<typeof directory>[0], redirected: string, program: string) {
  const folder = directory(t);
  writeFileSync(join(folder, 'five'), 'hello');
  const script = `"$0" "$@" ${redirected.replaceAll('@', folder)}`;
  const child = started(
    t,
    'sh',
    ['-c', script, process.execPath, ...nodeArguments(program), join(folder, 'five')],
    ['ignore', 'pipe', 'pipe'],
  );
  const { code, stdout, stderr } = await ended(child);
  return { code, stdout: stdout.toString(), stderr, folder };
}

const IMPORTS = `
  import { openSync, writeSync } from 'node:fs';
  import { copy, sendFile } from 'fdsplice';
  const say = (text) => writeSync(2, text);
`;

for (const verb of ['copy', 'sendFile'] as const) {
  for (const redirected of ['| cat', '> "@/out"; cat "@/out"'] as const) {
    test(`${verb} leaves process.stdout open although endDestination is true: ${redirected}`, async (t) => {
      const { code, stdout, stderr } = await inShell(
        t,
        redirected,
        `${IMPORTS}
        const file = openSync(process.argv[1], 'r');
        await ${verb}(file, process.stdout, { endDestination: true });
        process.stdout.write(' after', () => say('written'));
        `,
      );
      t.is(stdout, 'hello after', stderr);
      t.is(stderr, 'written');
      t.is(code, 0);
    });
  }
}

test('process.stdin as a destination and process.stdout as a source are rejected for every kind of descriptor', async (t) => {
  const program = `${IMPORTS}
    const file = openSync(process.argv[1], 'r+');
    for (const transfer of [() => copy(file, process.stdin), () => copy(process.stdout, file)]) {
      say(await transfer().then(() => 'copied', (error) => error.code + ' '));
    }
  `;
  for (const redirected of ['0<>"@/five" 1<>"@/five"', '< "@/five" > "@/out"', '0<>/dev/null | cat']) {
    const { stderr, folder } = await inShell(t, redirected, program);
    t.is(stderr, 'ERR_INVALID_ARG_VALUE ERR_INVALID_ARG_VALUE ', redirected);
    t.is(readFileSync(join(folder, 'five'), 'utf8'), 'hello');
  }
});

test('process.stdin with setEncoding is rejected, also when it is a file', async (t) => {
  const program = `${IMPORTS}
    process.stdin.setEncoding('utf8');
    say(await copy(process.stdin, openSync(process.argv[1], 'r+')).then(() => 'copied', (error) => error.code));
  `;
  const { stderr } = await inShell(t, '< "@/five"', program);
  t.is(stderr, 'ERR_INVALID_ARG_VALUE');
});
