// Short counts: system calls that move fewer bytes than requested, as the kernel is allowed to do at any time. Every byte
// must arrive exactly once.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import type { ExecutionContext } from 'ava';

import { testWithTool } from '../helpers/tools.js';
import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { sha256 } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { Peer } from '../helpers/peer.js';
import { RelayProcess } from '../helpers/processes/relay-process.js';
import { until } from '../helpers/wait.js';

const MiB = 1 << 20;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SHORTEN = fileURLToPath(new URL('../helpers/processes/shorten.py', import.meta.url));
/** Without recv: epoll(7) promises that a short recv has emptied the socket, and the core relies on it. */
const CALLS = 'splice,sendto,read,write,pread64,pwrite64,copy_file_range,sendfile';

/** Without the calls that load files. */
const PROBE_CALLS = 'write,sendto';

/** Without read on streams: libuv treats a hung-up socket as ended after a short read. */
const RELAY_CALLS = isNative ? CALLS : CALLS.replace(',read,', ',');

/** A command prefix that shortens calls, and a function that returns the number of shortened calls. */
function shortening(
  t: ExecutionContext,
  directory: string,
  calls: string,
): { command: string[]; count: () => Promise<number> } {
  const seed = Number(process.env['FDSPLICE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.log(`FDSPLICE_SEED=${seed}`);
  const report = join(directory, 'report');
  writeFileSync(report, '');
  return {
    command: ['python3', SHORTEN, String(seed), calls, report],
    count: async () => Number(await until('the report', () => readFileSync(report, 'utf8'), Boolean)),
  };
}

function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

if (isNative) {
  testWithTool(
    'python3',
    'the probe of Node passes although any call may return a short count',
    async (t) => {
      const program = `process.stdout.write('started\\n');
      const { capabilities } = await import('fdsplice');
      console.log(capabilities().native);`;
      // Each run shortens other calls.
      for (let run = 0; run < 3; run++) {
        const { command } = shortening(t, scratch(t), PROBE_CALLS);
        const [python = '', ...args] = command;
        const node = [process.execPath, '--input-type=module', '--eval', program];
        const { stdout } = await promisify(execFile)(python, [...args, ...node], { cwd: ROOT });
        t.is(stdout, 'started\ntrue\n');
      }
    },
  );
}

for (const zeroCopy of [true, false]) {
  testWithTool(
    'python3',
    `a relay delivers every byte although any call may return a short count, zeroCopy: ${zeroCopy}`,
    async (t) => {
      const { command, count } = shortening(t, scratch(t), RELAY_CALLS);
      const peer = Peer.start(t);
      const relay = await RelayProcess.start(t, peer, command, { relay: { zeroCopy } });
      const { client, origin } = await relay.connect();
      const bytes = 16 * MiB + 3;
      const readings = [peer.readToEnd(origin), peer.readToEnd(client)];
      const sent = await Promise.all(
        [client, origin].map(async (conn, index) => {
          const digest = await peer.write(conn, bytes, index + 1, { chunk: { min: 1, max: 256 << 10 } });
          await peer.shutdown(conn);
          return { ...digest, end: 'eof' };
        }),
      );
      t.deepEqual(await Promise.all(readings), sent);
      const endings = await until(
        'the relay has ended',
        () => relay.endings(),
        ({ length }) => length === 1,
      );
      t.like(endings, [{ tx: bytes, rx: bytes, code: null }]);
      t.like(await relay.stats(), { active: 0, pipes: { leased: 0 } });
      await relay.end();
      const shortened = await count();
      t.log(`${shortened} calls were shortened`);
      t.true(shortened > 20);
    },
  );

  testWithTool(
    'python3',
    `file copies deliver every byte although any call may return a short count, zeroCopy: ${zeroCopy}`,
    async (t) => {
      const directory = scratch(t);
      const { command, count } = shortening(t, directory, CALLS);
      const bytes = Buffer.alloc(3 * MiB + 1);
      for (let at = 0; at < bytes.length; at += 1) bytes.writeUInt8((at * 2654435761) % 251, at);
      writeFileSync(join(directory, 'from'), bytes);
      const body = `
        import { createHash } from 'node:crypto';
        import { once } from 'node:events';
        import { openSync } from 'node:fs';
        import net from 'node:net';
        import { copy, sendFile, stats } from 'fdsplice';
        const [from, to] = process.argv.slice(1);
        console.log('begins');
        const zeroCopy = ${zeroCopy};
        const { tx } = await copy(openSync(from), openSync(to, 'w'), { zeroCopy });
        const server = net.createServer().listen(0, '127.0.0.1');
        await once(server, 'listening');
        const client = net.connect(server.address().port, '127.0.0.1');
        const hash = createHash('sha256');
        client.on('data', (data) => hash.update(data));
        const [socket] = await once(server, 'connection');
        const sent = await sendFile(from, socket, { zeroCopy, endDestination: true });
        await once(client, 'close');
        const report = [tx, sent.tx, hash.digest('hex'), stats().active, stats().pipes.leased];
        // The write may be short as well.
        process.stdout.write(JSON.stringify(report), () => process.exit(0));
      `;
      const [program = '', ...args] = [...command, process.execPath, ...nodeArguments(body)];
      const paths = [join(directory, 'from'), join(directory, 'to')];
      const child = started(t, program, [...args, ...paths], ['ignore', 'pipe', 'pipe']);
      const { code, stdout, stderr } = await ended(child);
      t.is(code, 0, stderr);
      const report = JSON.parse(stdout.toString().split('\n')[1] ?? '') as unknown;
      t.deepEqual(report, [bytes.length, bytes.length, sha256(bytes), 0, 0]);
      t.is(sha256(readFileSync(join(directory, 'to'))), sha256(bytes));
      const shortened = await count();
      t.log(`${shortened} calls were shortened`);
      t.true(shortened > 5);
    },
  );
}
