// `fdsplice copy` between every kind of source and destination: the bytes that arrive, the report, and the progress bar.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import test, { type ExecutionContext } from 'ava';

import { MAIN, runCli } from '../helpers/cli/cli.js';
import { Copy, DESTINATIONS, firstConnection, SOURCES } from '../helpers/cli/copy.js';
import { directory, echo, endingOf, nobody, sha256 } from '../helpers/local-peers.js';
import { execFileAsync, testWithTool } from '../helpers/tools.js';
import { engine, nativeTest } from '../helpers/engine.js';

const MiB = 1 << 20;
const SIZE = 3 * MiB + 1;

for (const [sourceName, makeSource] of Object.entries(SOURCES)) {
  for (const [destinationName, makeDestination] of Object.entries(DESTINATIONS)) {
    // The stream engine serves regular files only.
    const define = [sourceName, destinationName].includes('a FIFO') ? nativeTest : test.serial;
    define(
      `copy from ${sourceName} to ${destinationName} delivers every byte and reports it`,
      async (t: ExecutionContext) => {
        const bytes = randomBytes(SIZE);
        const source = await makeSource(t, bytes);
        const destination = await makeDestination(t);
        const copy = new Copy(t, source.argument, destination.argument);
        const [arrived] = await Promise.all([destination.play(copy), source.play(copy)]);
        t.is(sha256(arrived), sha256(bytes));
        const { status, copied } = await copy.ended();
        t.is(status, 0);
        t.like(copied, { event: 'copied', bytes: SIZE, engine, error: null });
        t.true(copied.durationMs > 0);
        t.true(copied.zeroCopy <= SIZE);
      },
    );
  }
}

test('a file of procfs is copied to its end', async (t) => {
  const { status, stdout, stderr } = await runCli('copy', '/proc/self/status', '-');
  t.is(status, 0);
  t.regex(stdout, /^Name:\s+.*\n(?:.*\n)+.*ctxt_switches:\s+\d+\n$/);
  t.regex(stderr, new RegExp(`^copied ${stdout.length} bytes `));
});

test('redirected standard input and output are copied', async (t) => {
  const folder = await directory(t);
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  const bytes = randomBytes(SIZE);
  await writeFile(from, bytes);
  await execFileAsync('/bin/sh', [
    '-c',
    `"$@" < '${from}' > '${to}'`,
    'sh',
    process.execPath,
    MAIN,
    'copy',
    '-',
    '-',
  ]);
  t.is(sha256(await readFile(to)), sha256(bytes));
});

test('a copy without a terminal prints one line of text, one line of JSON, or nothing', async (t) => {
  const folder = await directory(t);
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  await writeFile(from, Buffer.alloc(1_234_567));

  const plain = await runCli('copy', from, to);
  t.regex(plain.stderr, /^copied 1234567 bytes \(1\.23 MB\) in \d+\.\d\d s \(\S+ \S+\/s\)\n$/);
  const json = await runCli('copy', '--json', from, to);
  const keys = Object.keys(JSON.parse(json.stderr) as object);
  t.deepEqual(keys, ['event', 'bytes', 'durationMs', 'zeroCopy', 'engine', 'error']);
  t.is(json.stderr.trim().split('\n').length, 1);
  const quiet = await runCli('copy', '--quiet', from, to);
  for (const { status, stdout } of [plain, json, quiet]) {
    t.is(status, 0);
    t.is(stdout, '');
  }
  t.is(quiet.stderr, '');
});

test('a missing source file gives exit status 1 and one line, and leaves the destination unchanged', async (t) => {
  const folder = await directory(t);
  const [from, to] = [join(folder, 'missing'), join(folder, 'to')];
  await writeFile(to, 'precious');
  for (const options of [[], ['--quiet']]) {
    const { status, stdout, stderr } = await runCli('copy', ...options, from, to);
    t.is(status, 1);
    t.is(stdout, '');
    t.regex(stderr, /^fdsplice: cannot open the source \S+: ENOENT: [^\n]+\n$/);
  }
  t.is(await readFile(to, 'utf8'), 'precious');
  await runCli('copy', from, join(folder, 'new'));
  t.false(existsSync(join(folder, 'new')));
});

test('a destination that cannot be opened is reported in JSON as well', async (t) => {
  const folder = await directory(t);
  const { status, copied } = await new Copy(t, '/dev/null', join(folder, 'no', 'such', 'directory')).ended();
  t.is(status, 1);
  t.like(copied, { bytes: 0, engine: null, error: { code: 'ENOENT', side: 'destination' } });
});

for (const side of ['source', 'destination'] as const) {
  test(`a directory as the ${side} fails with EISDIR`, async (t) => {
    const folder = await directory(t);
    const args = side === 'source' ? [folder, join(folder, 'to')] : ['/dev/null', folder];
    const { status, copied } = await new Copy(t, ...args).ended();
    t.is(status, 1);
    t.like(copied, { bytes: 0, error: { code: 'EISDIR', side } });
  });

  test(`a refused connection as the ${side} fails with ECONNREFUSED, and the file stays unchanged`, async (t) => {
    const folder = await directory(t);
    const [nowhere, file] = [`tcp:${await nobody(t)}`, join(folder, 'file')];
    await writeFile(file, 'precious');
    const { status, copied } = await new Copy(
      t,
      ...(side === 'source' ? [nowhere, file] : [file, nowhere]),
    ).ended();
    t.is(status, 1);
    t.like(copied, { bytes: 0, error: { code: 'ECONNREFUSED', side } });
    t.is(await readFile(file, 'utf8'), 'precious');
  });
}

test('a name whose addresses all refuse gives one error line', async (t) => {
  const port = (await nobody(t)).split(':')[1];
  const { status, stderr } = await runCli('copy', '/dev/null', `tcp:localhost:${port}`);
  t.is(status, 1);
  t.regex(stderr, /^fdsplice: cannot open the destination localhost:\d+: [^\n]*ECONNREFUSED[^\n]*\n$/);
});

test('a copy of a file to itself fails, and the file stays unchanged', async (t) => {
  const path = join(await directory(t), 'file');
  await writeFile(path, 'precious');
  const { status, stderr } = await runCli('copy', path, path);
  t.is(status, 1);
  t.regex(stderr, /^fdsplice: cannot open the destination \S+: it is the same file as the source[^\n]*\n$/);
  t.is(await readFile(path, 'utf8'), 'precious');
});

nativeTest('a full device fails with ENOSPC and a count of zero', async (t) => {
  const file = join(await directory(t), 'file');
  await writeFile(file, Buffer.alloc(MiB));
  const { status, copied } = await new Copy(t, file, '/dev/full').ended();
  t.is(status, 1);
  t.like(copied, { bytes: 0, error: { code: 'ENOSPC', side: 'destination' } });
});

nativeTest(
  'a reader of standard output that exits fails the copy with EPIPE and exit status 1',
  async (t) => {
    // The shell makes a real pipe. Node would connect the two processes by sockets.
    const script = '{ "$@"; echo "exit status $?" >&2; } | head -c 1';
    const command = [process.execPath, MAIN, 'copy', '/dev/zero', '-'];
    const { stderr } = await execFileAsync('/bin/sh', ['-c', script, 'sh', ...command]);
    t.regex(stderr, /^fdsplice: [^\n]*EPIPE[^\n]*after \d+ bytes\nexit status 1\n$/);
  },
);

test('a peer that sends answers all the time does not stall the copy', async (t) => {
  const { status, copied } = await new Copy(
    t,
    '--rate-limit',
    '100MB',
    ...(await fileAnd(t, await echo(t))),
  ).ended();
  t.is(status, 0);
  t.like(copied, { bytes: 32 * MiB, error: null });
});

test('a source that is reset: bytes sent before the reset arrive, and the destination is reset too', async (t) => {
  const [source, destination] = [await firstConnection(t), await firstConnection(t)];
  const copy = new Copy(t, `tcp:127.0.0.1:${source.port}`, `tcp:127.0.0.1:${destination.port}`);
  const [sender, receiver] = [await source.connection, await destination.connection];
  let received = 0;
  receiver.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (received === 100_000) {
      sender.resetAndDestroy();
    }
  });
  sender.write(Buffer.alloc(100_000));
  t.is(await endingOf(receiver), 'ECONNRESET');
  const { status, copied } = await copy.ended();
  t.is(status, 1);
  t.like(copied, { bytes: 100_000, error: { code: 'ECONNRESET', side: 'source' } });
  t.is(received, 100_000);
});

async function fileAnd(t: Parameters<typeof directory>[0], target: string): Promise<string[]> {
  const file = join(await directory(t), 'file');
  await writeFile(file, Buffer.alloc(32 * MiB));
  return [file, `tcp:${target}`];
}

/** Runs a command on a pseudo-terminal and prints all that the command draws there. */
const ON_A_TERMINAL = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        drawn = os.read(terminal, 65536)
    except OSError:
        break
    os.write(1, drawn)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

async function onTerminal(...args: string[]): Promise<{ status: number | null; drawn: string }> {
  const child = spawn('python3', ['-c', ON_A_TERMINAL, process.execPath, MAIN, 'copy', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  const [drawn] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return { status: child.exitCode, drawn };
}

testWithTool(
  'python3',
  'the progress bar on a terminal shows percentage, counts, rate and remaining time',
  async (t) => {
    const folder = await directory(t);
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    await writeFile(from, Buffer.alloc(4 * MiB));
    const { status, drawn } = await onTerminal('--rate-limit', '2MiB', from, to);
    t.is(status, 0, drawn);

    const frame = /(\d+)% \[[=-]{20}\] (\d\S* k?M?B) of 4\.19 MB {2}(\S+ k?M?B)\/s {2}ETA (\w+)/g;
    const frames = [...drawn.matchAll(frame)].map(([, share, count, rate, left]) => ({
      share,
      count,
      rate,
      left,
    }));
    const shares = frames.map(({ share }) => Number(share));
    t.true(new Set(shares).size >= 5, drawn);
    t.deepEqual(
      shares,
      shares.toSorted((a, b) => a - b),
    );
    t.like(frames.at(-1), { share: '100', count: '4.19 MB' });
    t.true(
      frames.some(({ left = '' }) => /^[12]s$/.test(left)),
      drawn,
    );
    t.true(
      frames.some(({ rate = '' }) => rate.endsWith(' MB')),
      drawn,
    );
    // The terminal settings are restored, and the outcome replaces the bar.
    t.is(drawn.split('\u001b[?7l').length, drawn.split('\u001b[?7h').length);
    const last = drawn.slice(drawn.lastIndexOf('\u001b[2K') + '\u001b[2K'.length);
    t.regex(last, /^copied 4194304 bytes \(4\.19 MB\) in \d+\.\d\d s \(\S+ MB\/s\)\r\n$/);
  },
);

testWithTool(
  'python3',
  'the progress on a terminal shows counts and rate if the size is unknown',
  async (t) => {
    const source = await firstConnection(t);
    const to = join(await directory(t), 'to');
    const running = onTerminal(`tcp:127.0.0.1:${source.port}`, to);
    const socket = await source.connection;
    for (let sent = 0; sent < 5; sent++) {
      socket.write(Buffer.alloc(100_000));
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    socket.end();
    const { status, drawn } = await running;
    t.is(status, 0, drawn);
    t.true(new Set(drawn.match(/\d00 kB {2}\S+ k?B\/s {2}\d+s/g)).size >= 2, drawn);
    t.notRegex(drawn, /%|ETA/);
  },
);

testWithTool(
  'python3',
  'no progress bar is drawn with --quiet, with --json, or if the data goes to the terminal',
  async (t) => {
    const folder = await directory(t);
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    await writeFile(from, 'some text\n');
    t.deepEqual(await onTerminal('--quiet', from, to), { status: 0, drawn: '' });
    t.regex((await onTerminal('--json', from, to)).drawn, /^\{"event":"copied",[^\n]*\}\r\n$/);
    t.regex((await onTerminal(from, '-')).drawn, /^some text\r\ncopied 10 bytes [^\n]*\n$/);
  },
);
