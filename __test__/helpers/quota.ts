// Uses up the quota of pipe memory that the kernel sets for unprivileged users.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import type { ExecutionContext } from 'ava';

import { nodeArguments } from './copy-child.js';
import { within } from './wait.js';

/** A command prefix that runs a program as an unprivileged user, because root is exempt from the quota. */
export const AS_NOBODY =
  process.getuid?.() === 0 ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : [];

/** Starts another process of that user which holds FIFOs. Their buffers count against the quota like those of any pipe. */
export async function holdPipes(t: ExecutionContext, count: number): Promise<ChildProcess> {
  const program = `
    import { execFileSync } from 'node:child_process';
    import { constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
    const directory = mkdtempSync('/tmp/fdsplice-');
    const paths = Array.from({ length: ${count} }, (_, index) => directory + '/' + index);
    execFileSync('mkfifo', paths);
    const held = paths.map((path) => openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    rmSync(directory, { recursive: true });
    let room = 0;
    try { for (;;) room += writeSync(held.at(-1), Buffer.alloc(4096)); } catch { console.log(room); }
    process.stdin.resume();
  `;
  const limit = ['prlimit', `--nofile=${count + 64}`];
  const [file = '', ...args] = [...AS_NOBODY, ...limit, process.execPath, ...nodeArguments(program)];
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [room] = (await within(30_000, 'pipes are held', once(createInterface(child.stdout), 'line'))) as [
    string,
  ];
  t.log(`a new pipe of that user has room for ${room} bytes`);
  t.true(Number(room) < 65_536, `the quota is not used up: ${room} bytes`);
  return child;
}
