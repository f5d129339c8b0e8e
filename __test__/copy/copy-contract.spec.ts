// What errors of copies carry and leave out, what an argument is called, and what stays open.
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

test('what an error has nothing to say about is absent from it', async (t) => {
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

nativeTest('undelivered is there when there is something in it, and absent when not', async (t) => {
  const full = opened(t, '/dev/full', 'w');
  // The position of a file stands in front of what was not delivered; a device has none.
  t.false('undelivered' in (await failure(t, copy(opened(t, sample(t, 5000).path), full))));
  const { undelivered } = await failure(t, copy(opened(t, '/dev/zero'), full, { length: 100 }));
  t.deepEqual(undelivered, Buffer.alloc(100));
});

nativeTest('a source that is destroyed leaves what it had given in undelivered', async (t) => {
  const peer = Peer.start(t);
  const { a, b, client } = await pair(t, peer);
  // Through a buffer, so that what cannot be delivered is certain to be held; the other end does not read.
  const transfer = copy(a, b, { reject: false, zeroCopy: false });
  void peer.write(client, 64 * MiB, 1).catch(() => {});
  for (let last = -1; transfer.traffic.tx !== last || last === 0; await sleep(500))
    last = transfer.traffic.tx;
  a.destroy();
  const { error } = await transfer;
  t.is(error?.code, 'ABORT_ERR');
  t.true((error?.undelivered?.length ?? 0) > 0);
});

test('mistakes of sendFile name the argument as the caller knows it', async (t) => {
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

test('an end of Infinity is the end of the file, as for fs.createReadStream', async (t) => {
  const { path, bytes } = sample(t, 1000);
  const copied = join(directory(t), 'copy');
  t.is((await sendFile(path, opened(t, copied, 'w'), { start: 10, end: Infinity })).tx, 990);
  t.deepEqual(readFileSync(copied), bytes.subarray(10));
});

test('a transfer that never started has the engine that it would have had', async (t) => {
  const { path } = sample(t, 10);
  const { engine: native } = await sendFile(`${path}!`, opened(t, path, 'r+'), { reject: false });
  t.is(native, engine);
  const gone = new PassThrough().destroy();
  t.is((await copy(opened(t, path), gone, { reject: false })).engine, 'stream');
  t.is((await sendFile(path, gone, { reject: false })).engine, 'stream');
});

test('a socket that was never connected is a mistake', async (t) => {
  const file = opened(t, sample(t, 10).path, 'r+');
  for (const transfer of [copy(new Socket(), file), copy(file, new Socket())]) {
    const error = await t.throwsAsync<NodeJS.ErrnoException>(transfer);
    t.is(error?.code, 'ERR_INVALID_ARG_VALUE');
  }
});

test('a web stream, and a pair of them, is refused with what to do about it', async (t) => {
  const file = opened(t, sample(t, 10).path, 'r+');
  for (const web of [new ReadableStream(), new WritableStream(), new TransformStream()] as never[]) {
    for (const transfer of [copy(web, file), copy(file, web)]) {
      const error = await t.throwsAsync<NodeJS.ErrnoException>(transfer);
      t.is(error?.code, 'ERR_INVALID_ARG_TYPE');
      t.regex(error?.message ?? '', /Readable\.fromWeb/);
    }
  }
});

/** Runs a program in a process of its own, whose standard streams a shell connects. */
async function inShell(t: Parameters<typeof directory>[0], redirected: string, program: string) {
  const where = directory(t);
  writeFileSync(join(where, 'five'), 'hello');
  const script = `"$0" "$@" ${redirected.replaceAll('@', where)}`;
  const child = started(
    t,
    'sh',
    ['-c', script, process.execPath, ...nodeArguments(program), join(where, 'five')],
    ['ignore', 'pipe', 'pipe'],
  );
  const { code, stdout, stderr } = await ended(child);
  return { code, stdout: stdout.toString(), stderr, where };
}

const IMPORTS = `
  import { openSync, writeSync } from 'node:fs';
  import { copy, sendFile } from 'fdsplice';
  const say = (text) => writeSync(2, text);
`;

for (const verb of ['copy', 'sendFile'] as const) {
  for (const redirected of ['| cat', '> "@/out"; cat "@/out"'] as const) {
    test(`${verb} leaves process.stdout open whatever endDestination says: ${redirected}`, async (t) => {
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

test('process.stdin is no destination and process.stdout no source, whatever is behind them', async (t) => {
  const program = `${IMPORTS}
    const file = openSync(process.argv[1], 'r+');
    for (const transfer of [() => copy(file, process.stdin), () => copy(process.stdout, file)]) {
      say(await transfer().then(() => 'copied', (error) => error.code + ' '));
    }
  `;
  for (const redirected of ['0<>"@/five" 1<>"@/five"', '< "@/five" > "@/out"', '0<>/dev/null | cat']) {
    const { stderr, where } = await inShell(t, redirected, program);
    t.is(stderr, 'ERR_INVALID_ARG_VALUE ERR_INVALID_ARG_VALUE ', redirected);
    t.is(readFileSync(join(where, 'five'), 'utf8'), 'hello');
  }
});

test('process.stdin with setEncoding is a mistake, also from a file', async (t) => {
  const program = `${IMPORTS}
    process.stdin.setEncoding('utf8');
    say(await copy(process.stdin, openSync(process.argv[1], 'r+')).then(() => 'copied', (error) => error.code));
  `;
  const { stderr } = await inShell(t, '< "@/five"', program);
  t.is(stderr, 'ERR_INVALID_ARG_VALUE');
});
