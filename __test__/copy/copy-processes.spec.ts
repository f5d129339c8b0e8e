// Copies from and to child processes and the standard streams of this one: pipes, files, sockets and terminals, which stay
// blocking for the processes that share them.
import { spawn } from 'node:child_process';
import { createReadStream, openSync, closeSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { copy, sendFile } from 'fdsplice';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { directory, MiB, opened, sample, sha256, sink } from '../helpers/copy-files.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { failure } from '../helpers/failure.js';
import { nothingIsLeft } from '../helpers/left.js';
import { pair } from '../helpers/pair.js';
import { Peer } from '../helpers/peer.js';
import { until, within } from '../helpers/wait.js';

nothingIsLeft(test, 'behind all tests');

/** Node's streams of a child are sockets, although their types do not say so. */
const socket = (stream: Readable | Writable | null): Socket => stream as Socket;

test('the output of a child is copied to a socket, and the child closes normally', async (t) => {
  const peer = Peer.start(t);
  const { b, origin } = await pair(t, peer);
  const { path, bytes } = sample(t, 10 * MiB);
  const child = started(t, 'cat', [path], ['ignore', 'pipe', 'inherit']);
  const closed = once(child, 'close');
  const reading = peer.readToEnd(origin);
  t.is((await copy(socket(child.stdout), b, { endDestination: true })).tx, bytes.length);
  t.deepEqual(await reading, { bytes: bytes.length, sha256: sha256(bytes), end: 'eof' });
  t.deepEqual(await within(5000, 'the child closes', closed), [0, null]);
});

test('a socket is copied to the input of a child, which endDestination ends', async (t) => {
  const peer = Peer.start(t);
  const { a, client } = await pair(t, peer);
  const child = started(t, 'sha256sum', [], ['pipe', 'pipe', 'inherit']);
  const out = ended(child);
  const transfer = copy(a, socket(child.stdin), { length: 5 * MiB, endDestination: true });
  await peer.write(client, 6 * MiB, 1);
  t.is((await transfer).tx, 5 * MiB);
  const { code, stdout } = await out;
  t.is(code, 0);
  t.is(stdout.toString().split(' ')[0], await peer.hash(1, 5 * MiB));
});

test('a file is copied to the input of a child, which stays open without endDestination', async (t) => {
  const { path, bytes } = sample(t, 3 * MiB);
  const child = started(t, 'sha256sum', [], ['pipe', 'pipe', 'inherit']);
  const out = ended(child);
  const fd = opened(t, path);
  t.is((await copy(fd, socket(child.stdin), { length: MiB })).tx, MiB);
  t.is((await sendFile(path, socket(child.stdin), { start: MiB })).tx, 2 * MiB);
  child.stdin?.end(' and more');
  t.is((await out).stdout.toString().split(' ')[0], sha256(bytes, ' and more'));
});

test('the output of one child is copied to the input of another', async (t) => {
  const { path, bytes } = sample(t, 3 * MiB);
  const one = started(t, 'cat', [path], ['ignore', 'pipe', 'inherit']);
  const other = started(t, 'sha256sum', [], ['pipe', 'pipe', 'inherit']);
  const out = ended(other);
  const result = await copy(socket(one.stdout), socket(other.stdin), { endDestination: true });
  t.is(result.tx, bytes.length);
  t.is((await out).stdout.toString().split(' ')[0], sha256(bytes));
});

nativeTest('a child that stops reading fails the copy at the destination', async (t) => {
  const child = started(t, 'true', [], ['pipe', 'ignore', 'inherit']);
  child.stdin?.on('error', () => {});
  const exit = once(child, 'exit');
  const transfer = copy(opened(t, '/dev/zero'), socket(child.stdin));
  const error = await failure(t, transfer);
  t.is(error.side, 'destination');
  t.true(['EPIPE', 'ECONNRESET', 'ABORT_ERR'].includes(error.code), error.code);
  await exit;
});

test('the input of a child is rejected as a source', async (t) => {
  const child = started(t, 'cat', [], ['pipe', 'pipe', 'inherit']);
  const transfer = copy(socket(child.stdin), sink(t));
  const error = await t.throwsAsync(within(5000, 'a rejection', transfer));
  t.is((error as NodeJS.ErrnoException).code, 'ERR_INVALID_ARG_VALUE', error?.message);
  child.stdin?.end();
});

/** Copies stdin to stdout and reports the result. */
const THROUGH = `
  import { copy } from 'fdsplice';
  const { tx, error } = await copy(process.stdin, process.stdout, { reject: false });
  console.error(JSON.stringify({ tx, error: error?.code ?? null, stdin: process.stdin.destroyed }));
`;
/** The same with descriptor numbers. */
const BY_NUMBERS = `
  import { copy } from 'fdsplice';
  const { tx, error } = await copy(0, 1, { reject: false });
  console.error(JSON.stringify({ tx, error: error?.code ?? null, stdin: false }));
`;

for (const [ends, program] of [
  ['process.stdin and process.stdout', THROUGH],
  ['0 and 1', BY_NUMBERS],
] as const) {
  for (const from of ['file', 'pipe', 'socket'] as const) {
    for (const to of ['file', 'pipe', 'socket'] as const) {
      // Without the core, numbers are supported for files only.
      const needsCore = ends === '0 and 1' && (from !== 'file' || to !== 'file');
      const define = needsCore ? nativeTest : test;
      define(`${ends} are copied from a ${from} to a ${to}`, async (t: ExecutionContext) => {
        const { path, bytes } = sample(t, 3 * MiB);
        const into = join(directory(t), 'out');
        // A shell connects the streams as a user would; its pipes are blocking.
        const script = [
          from === 'pipe' ? 'cat "$2" |' : '',
          '"$0" --input-type=module --eval "$1"',
          from === 'file' ? '< "$2"' : '',
          to === 'file' ? '> "$3"' : '',
          to === 'pipe' ? '| cat > "$3"' : '',
        ].join(' ');
        const child = started(
          t,
          'sh',
          ['-c', script, process.execPath, program, path, into],
          [from === 'socket' ? 'pipe' : 'ignore', to === 'socket' ? 'pipe' : 'ignore', 'pipe'],
        );
        if (child.stdin !== null) createReadStream(path).pipe(child.stdin);
        const { code, stdout, stderr } = await ended(child);
        const { stdin, ...result } = JSON.parse(stderr) as Record<string, unknown>;
        t.deepEqual(result, { tx: bytes.length, error: null }, stderr);
        // Node itself destroys a stream that it has read to the end.
        if (isNative) t.false(stdin);
        t.is(code, 0);
        t.is(sha256(to === 'socket' ? stdout : readFileSync(into)), sha256(bytes));
      });
    }
  }
}

test('process.stdout accepts writes after a copy', async (t) => {
  const { path, bytes } = sample(t, 300_000);
  const program = `
    import { open } from 'node:fs/promises';
    import { copy } from 'fdsplice';
    process.stdout.write('before ');
    const source = await open(process.argv[1]);
    await copy(source, process.stdout);
    process.stdout.write(' after');
    await source.close();
  `;
  for (const into of ['pipe', 'file', 'shell'] as const) {
    const out = join(directory(t), 'out');
    const fd = openSync(out, 'w');
    const child =
      into === 'shell'
        ? started(
            t,
            'sh',
            [
              '-c',
              '"$0" "$1" "$2" "$3" "$4" | cat > "$5"',
              process.execPath,
              ...nodeArguments(program),
              path,
              out,
            ],
            ['ignore', 'ignore', 'inherit'],
          )
        : started(
            t,
            process.execPath,
            [...nodeArguments(program), path],
            ['ignore', into === 'pipe' ? 'pipe' : fd, 'inherit'],
          );
    closeSync(fd);
    const { code, stdout } = await ended(child);
    t.is(code, 0);
    t.is(sha256(into === 'pipe' ? stdout : readFileSync(out)), sha256('before ', bytes, ' after'), into);
  }
});

nativeTest('FIFOs shared with a shell stay blocking during and after a copy', async (t) => {
  const folder = directory(t);
  const program = `
    import { copy } from 'fdsplice';
    const transfer = copy(3, 4, { length: 70000 });
    process.stderr.write('copying\\n');
    // Killed while it copies, it has to leave nothing behind either.
    if (process.argv[1] === 'die') setTimeout(() => process.kill(process.pid, 'SIGKILL'), 500);
    await transfer;
  `;
  // The flags in /proc are octal; 04000 is O_NONBLOCK.
  const script = `
    cd "$3" && mkfifo in out && exec 3<>in 4<>out 5<>in 6<>out
    nonblocking() { for fd in 3 4 5 6; do grep -h flags /proc/$$/fdinfo/$fd; done | grep -c '4[0-9][0-9][0-9]$'; }
    nonblocking
    (cd "$OLDPWD"; "$0" --input-type=module --eval "$1" "$2") &
    head -c 50000 /dev/zero >&5; sleep 0.5; nonblocking
    if [ "$2" = live ]; then head -c 20000 /dev/zero >&5; fi
    head -c 50000 <&6 | wc -c
    wait $! ; nonblocking
  `;
  for (const fate of ['live', 'die']) {
    const child = started(
      t,
      'bash',
      ['-c', script, process.execPath, program, fate, directory(t, folder)],
      ['ignore', 'pipe', 'pipe'],
    );
    const { stdout, stderr } = await ended(child);
    t.regex(stderr, /copying/);
    t.is(stdout.toString(), '0\n0\n50000\n0\n', `${fate}: ${stderr}`);
  }
});

/** Runs a Node program on a pseudo-terminal of its own. */
function onTerminal(program: string, ...args: string[]): ReturnType<typeof spawn> {
  const quoted = [process.execPath, ...nodeArguments(program), ...args]
    .map((word) => `'${word.replaceAll("'", `'\\''`)}'`)
    .join(' ');
  return spawn('script', ['--quiet', '--return', '--command', quoted, '/dev/null'], {
    cwd: new URL('../..', import.meta.url),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
}

test('process.stdin and process.stdout are copied from and to a terminal', async (t) => {
  const out = join(directory(t), 'out');
  writeFileSync(out, '');
  const program = `
    import { open } from 'node:fs/promises';
    import { copy } from 'fdsplice';
    const file = await open(process.argv[1], 'w');
    process.stdout.write('ready\\n');
    const { tx } = await copy(process.stdin, file);
    const written = await open(process.argv[1]);
    const back = await copy(written, process.stdout);
    process.stdout.write(JSON.stringify([tx, back.tx]));
    // Node warns of a handle that it has to close itself.
    await Promise.all([file.close(), written.close()]);
  `;
  const child = onTerminal(program, out);
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await within(
    20_000,
    'the program is ready',
    new Promise<void>((resolve) => {
      child.stdout?.on('data', () => output.includes('ready') && resolve());
    }),
  );
  // A line, then the key that ends the input.
  child.stdin?.write('hello terminal\n\u0004');
  await until(
    'both counts are printed',
    () => output,
    (text) => text.includes(']'),
  );
  t.is(readFileSync(out, 'latin1'), 'hello terminal\n');
  t.regex(output, /hello terminal\r\n\[15,15\]/);
});

test('a copy from process.stdin that has ended does not keep the process alive', async (t) => {
  const program = `
    import { openSync } from 'node:fs';
    import { copy } from 'fdsplice';
    const { tx } = await copy(process.stdin, openSync(process.argv[1], 'w'), { length: 3 });
    console.log(tx);
  `;
  const out = join(directory(t), 'out');
  const child = started(t, process.execPath, [...nodeArguments(program), out], ['pipe', 'pipe', 'inherit']);
  // The input stays open.
  child.stdin?.write('hello');
  const { code, stdout } = await ended(child, 10_000);
  t.is(code, 0);
  t.is(stdout.toString(), '3\n');
});

for (const [reader, program] of [
  ['a listener', `process.stdin.on('data', (chunk) => (rest += chunk));`],
  ['a loop', `for await (const chunk of process.stdin) rest += chunk;`],
  ['another copy', `rest = (await copy(process.stdin, process.stdout)).tx;`],
] as const) {
  test(`bytes that a copy left in process.stdin, and later ones, go to ${reader}`, async (t) => {
    const whole = `
      import { openSync } from 'node:fs';
      import { copy } from 'fdsplice';
      let rest = '';
      await copy(process.stdin, openSync(process.argv[1], 'w'), { length: 3 });
      console.error('copied');
      process.on('exit', () => console.error(rest));
      ${program}
    `;
    const out = join(directory(t), 'out');
    const child = started(t, process.execPath, [...nodeArguments(whole), out], ['pipe', 'pipe', 'pipe']);
    child.stdin?.write('hello');
    child.stderr?.once('data', () => child.stdin?.end(' world'));
    const { code, stdout, stderr } = await ended(child);
    t.is(code, 0);
    t.is(readFileSync(out, 'latin1'), 'hel');
    t.is(stdout.toString(), reader === 'another copy' ? 'lo world' : '');
    t.is(stderr, `copied\n${reader === 'another copy' ? '8' : 'lo world'}\n`);
  });
}
