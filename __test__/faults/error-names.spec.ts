// The names of system errors. Node has none for many numbers of Linux, which a network file system or a driver may return.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describeErrno } from '../../lib/contract/errno.js';
import { nodeFailure, systemFailure } from '../../lib/contract/errors.js';
import test from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { execFileAsync, testWithTool } from '../helpers/tools.js';
import { isNative } from '../helpers/engine.js';

testWithTool('python3', 'every error number of Linux has its name', async (t) => {
  const program = 'import errno, json; print(json.dumps(errno.errorcode))';
  const { stdout } = await execFileAsync('python3', ['-c', program]);
  const names = JSON.parse(stdout) as Record<string, string>;
  // Python lacks this one. 58 is EDEADLOCK where it is a number of its own.
  const expected = { ...names, 133: 'EHWPOISON', 58: 'EDEADLOCK' };
  // One number has two names. Node's is the one of its own errors.
  const same: Record<string, string> = { EOPNOTSUPP: 'ENOTSUP', EWOULDBLOCK: 'EAGAIN', EDEADLOCK: 'EDEADLK' };
  t.true(Object.keys(expected).length >= 132);
  for (const [errno, name] of Object.entries(expected)) {
    const [found, text] = describeErrno(-Number(errno));
    t.is(found, errno === '58' ? 'EDEADLOCK' : (same[name] ?? name));
    t.regex(text, /^[a-zA-Z./][^\n]+$/);
    t.not(text, 'unknown error');
  }
});

test('a number that no system has keeps its number as its name', (t) => {
  t.like(systemFailure(-4000, 'read'), { code: 'E4000', message: 'read failed: E4000, unknown error' });
});

test('an error of Node with a number that Node cannot name gets the name of Linux', (t) => {
  for (const code of ['UNKNOWN', 'Unknown system error -116']) {
    const error = Object.assign(new Error('failed'), { code, errno: -116, syscall: 'read' });
    t.like(nodeFailure('source', error), {
      code: 'ESTALE',
      message: 'read failed: ESTALE, stale file handle',
      errno: -116,
    });
  }
});

for (const code of ['ESTALE', 'EDQUOT', 'EUCLEAN', 'EHWPOISON', 'EBADMSG']) {
  testWithTool(
    'strace',
    `a read of a file that fails with ${code} fails the transfer with this name`,
    async (t) => {
      const directory = mkdtempSync(join(tmpdir(), 'fdsplice-'));
      t.teardown(() => rmSync(directory, { recursive: true }));
      const [path, to] = [join(directory, 'from'), join(directory, 'to')];
      writeFileSync(path, Buffer.alloc(200_000));
      const body = `
      import { openSync } from 'node:fs';
      import { copy } from 'fdsplice';
      const { error } = await copy(openSync(${JSON.stringify(path)}), openSync(${JSON.stringify(to)}, 'w'), { reject: false });
      console.log(JSON.stringify([error.code, error.syscall, error.message]));
      process.exit(0);
    `;
      const calls = 'pread64,read,copy_file_range';
      const faults = ['-P', path, '-e', `trace=${calls}`, '-e', `inject=${calls}:error=${code}`];
      const args = ['-f', '-qq', '-o', '/dev/null', ...faults, process.execPath, ...nodeArguments(body)];
      const { stdout, stderr } = await ended(started(t, 'strace', args, ['ignore', 'pipe', 'pipe']));
      t.is(stderr, '');
      const [found, syscall, message] = JSON.parse(stdout.toString()) as string[];
      t.is(found, code);
      t.is(syscall, isNative ? 'copy_file_range' : 'read');
      t.regex(message ?? '', new RegExp(`^\\w+ failed: ${code}, [a-z]`));
    },
  );
}
