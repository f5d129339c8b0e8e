// Files that another writer extends during a copy: the destination is never cut off, and bytes appended to a sparse source
// are never taken for a hole. strace delays the calls between which the other writer has to write.
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { sha256 } from '../helpers/copy-files.js';
import { coreTestWithTool } from '../helpers/tools.js';

const MiB = 1 << 20;

function directory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

/** Starts a program under strace, which delays the given calls on a file. */
function delayed(t: ExecutionContext, path: string, calls: string, ms: number, body: string) {
  const injection = ['-P', path, '-e', `trace=${calls}`, '-e', `inject=${calls}:delay_enter=${ms * 1000}`];
  const args = ['-f', '-qq', '-o', '/dev/null', ...injection, process.execPath, ...nodeArguments(body)];
  return started(t, 'strace', args, ['pipe', 'pipe', 'pipe']);
}

/** Sparse sources of 2 MiB. */
const SPARSE: Record<string, (path: string) => void> = {
  'ends with a hole': (path) => {
    writeFileSync(path, Buffer.alloc(MiB, 's'));
    truncateSync(path, 2 * MiB);
  },
  'begins with a hole': (path) => {
    writeFileSync(path, '');
    truncateSync(path, MiB);
    appendFileSync(path, Buffer.alloc(MiB, 's'));
  },
  'is one hole': (path) => {
    writeFileSync(path, '');
    truncateSync(path, 2 * MiB);
  },
};

for (const [name, make] of Object.entries(SPARSE)) {
  coreTestWithTool(
    'strace',
    `two copies into one file at different positions, one of a file that ${name}: both arrive`,
    async (t) => {
      const at = directory(t);
      const [sparse, dense, to] = [join(at, 'sparse'), join(at, 'dense'), join(at, 'to')];
      make(sparse);
      writeFileSync(to, '');
      writeFileSync(dense, Buffer.alloc(9 * MiB, 'd'));
      const body = `
        import { openSync } from 'node:fs';
        import { setTimeout } from 'node:timers/promises';
        import { copy } from 'fdsplice';
        const to = openSync(${JSON.stringify(to)}, 'w');
        const copies = [copy(openSync(${JSON.stringify(sparse)}), to, { position: 0 })];
        await setTimeout(300);
        copies.push(copy(openSync(${JSON.stringify(dense)}), to, { position: ${2 * MiB} }));
        console.log(JSON.stringify((await Promise.all(copies)).map(({ tx }) => tx)));
        process.exit(0);
      `;
      const child = delayed(t, to, 'ftruncate,pwrite64,fallocate', 1000, body);
      const { code, stdout, stderr } = await ended(child);
      t.is(code, 0, stderr);
      t.deepEqual(JSON.parse(stdout.toString()), [2 * MiB, 9 * MiB]);
      const written = readFileSync(to);
      t.is(written.length, 11 * MiB);
      t.is(sha256(written), sha256(readFileSync(sparse), readFileSync(dense)));
    },
  );
}

coreTestWithTool(
  'strace',
  'bytes appended to a sparse source during its copy are not zeros in the copy',
  async (t) => {
    const at = directory(t);
    const [from, to] = [join(at, 'from'), join(at, 'to')];
    writeFileSync(from, '');
    truncateSync(from, MiB);
    appendFileSync(from, Buffer.alloc(MiB, 's'));
    const body = `
    import { openSync } from 'node:fs';
    import { copy } from 'fdsplice';
    const transfer = copy(openSync(${JSON.stringify(from)}), openSync(${JSON.stringify(to)}, 'w'));
    console.log('started');
    console.log((await transfer).tx);
    process.exit(0);
  `;
    const child = delayed(t, from, 'fstat,newfstatat,statx', 400, body);
    const appending = setInterval(() => appendFileSync(from, Buffer.alloc(MiB / 4, 'a')), 100);
    t.teardown(() => clearInterval(appending));
    // The copy follows the file for as long as it grows.
    child.stdout?.once('data', () => setTimeout(() => clearInterval(appending), 2000));
    const { code, stdout, stderr } = await ended(child);
    t.is(code, 0, stderr);
    const [, tx = NaN] = stdout.toString().trim().split('\n').map(Number);
    const [source, written] = [readFileSync(from), readFileSync(to)];
    t.is(written.length, tx);
    t.log(`${written.length} of ${source.length} bytes`);
    t.is(sha256(written), sha256(source.subarray(0, tx)));
  },
);
