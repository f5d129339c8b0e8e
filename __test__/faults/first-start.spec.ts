// Transfers that cannot be started, because the process has no descriptor or no thread left: before the core has started
// its first thread, and later, when only the threads for blocking calls are missing. helpers/processes/exhausted-process.mjs
// is the process.
import { fileURLToPath } from 'node:url';

import { ended, started } from '../helpers/copy-child.js';
import { Peer } from '../helpers/peer.js';
import { AS_NOBODY } from '../helpers/quota.js';
import { coreTestWithTool } from '../helpers/tools.js';
import { unansweredPort } from '../helpers/unanswered.js';

const PROGRAM = fileURLToPath(new URL('../helpers/processes/exhausted-process.mjs', import.meta.url));

const RELAYS = ['relay, b connecting', 'relay, both connected'];
const BLOCKING = [
  'copy of a socket to a file',
  'copy of a file to a file',
  'sendFile to a socket',
  'sendFile to a response',
  'copy of a file to a response',
  'sendFile to a pipelined response',
];
const MIXED = [
  'relay of a stream and a number',
  'relay of a number and a stream',
  'copy of a stream to a number',
  'copy of a number to a stream',
];
const KINDS = [...RELAYS, ...BLOCKING, ...MIXED];

const WAITING = ['waiting', 'ABORT_ERR', true, true];
const done = (phase: string) => (kind: string) => [phase, kind, 'done', true, true];
const refused = (phase: string) => (kind: string) => [phase, kind, 'EAGAIN', 'clone', true, true];

for (const [where, inside] of [
  ['the main thread', 'main'],
  ['a worker', 'worker'],
] as const) {
  coreTestWithTool(
    'prlimit',
    `without descriptors no kind of transfer can start in ${where}: each fails with EMFILE, leaves nothing, and works later`,
    async (t) => {
      const port = await unansweredPort(t, Peer.start(t));
      const command = ['--nofile=128', process.execPath, PROGRAM, 'descriptors', inside, port];
      const child = started(t, 'prlimit', command, ['ignore', 'pipe', 'pipe']);
      const { code, stdout, stderr } = await ended(child);
      const first = KINDS.map((kind) => ['first', kind, 'epoll_create1']);
      t.deepEqual(lines(stdout), [WAITING, WAITING, ...first, ...KINDS.map(done('later'))]);
      t.deepEqual([code, stderr], [0, '']);
    },
  );

  coreTestWithTool(
    'prlimit',
    `without threads no kind of transfer can start in ${where}: each fails with EAGAIN, leaves nothing, and works later`,
    async (t) => {
      const port = await unansweredPort(t, Peer.start(t));
      const [file = '', ...args] = [...AS_NOBODY, process.execPath, PROGRAM, 'threads', inside, port];
      const child = started(t, file, args, ['ignore', 'pipe', 'pipe']);
      const { code, stdout, stderr } = await ended(child);
      t.deepEqual(lines(stdout), [
        WAITING,
        ...KINDS.map(refused('first')),
        done('alone')('relay, both connected'),
        // The workers run, and a transfer without blocking calls needs no other thread.
        ...RELAYS.map(done('workers')),
        ...BLOCKING.map(refused('workers')),
        ...MIXED.map(done('workers')),
        ...KINDS.map(done('later')),
      ]);
      t.deepEqual([code, stderr], [0, '']);
    },
  );
}

coreTestWithTool(
  'prlimit',
  'the first sendFile of a CommonJS program without threads fails with EAGAIN, and the process goes on',
  async (t) => {
    // Such a program has no thread for file calls yet, and Node aborts the process if it cannot start them.
    const program = `
      const { execFileSync } = require('node:child_process');
      const net = require('node:net');
      const { sendFile } = require('fdsplice');
      execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:']);
      const server = net.createServer(async (socket) => {
        const { total, error } = await sendFile(process.execPath, socket, { reject: false });
        console.log(JSON.stringify([total, error.code, error.syscall]));
        process.exit(0);
      });
      server.listen(0, '127.0.0.1', () => net.connect(server.address().port, '127.0.0.1').resume());
    `;
    const node = [process.execPath, '--input-type=commonjs', '--eval', program];
    const [file = '', ...args] = [...AS_NOBODY, ...node];
    const child = started(t, file, args, ['ignore', 'pipe', 'pipe']);
    const { code, stdout } = await ended(child);
    t.is(code, 0);
    t.deepEqual(lines(stdout), [[0, 'EAGAIN', 'clone']]);
  },
);

function lines(output: Buffer): unknown[] {
  return output
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}
