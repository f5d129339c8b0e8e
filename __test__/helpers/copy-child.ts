// Child processes: programs that use the package, and programs at the other end of a pipe.
import { once } from 'node:events';
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

import { within } from './wait.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface Ended {
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

/** Starts a process. The end of the test kills it. */
export function started<S extends StdioOptions>(
  t: ExecutionContext,
  command: string,
  args: readonly string[],
  stdio: S,
): ChildProcess {
  const child = spawn(command, args, { cwd: ROOT, stdio });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** Arguments that make Node run this program. It can import the package by name. */
export function nodeArguments(program: string): string[] {
  return ['--input-type=module', '--eval', program];
}

/** Waits for the end of a process. Returns its status and its output on pipes. */
export async function ended(child: ChildProcess, ms = 60_000): Promise<Ended> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  const event = `${child.spawnargs.join(' ').slice(0, 300)} ends`;
  const [code] = (await within(ms, event, once(child, 'close'))) as [number | null];
  return { code, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString() };
}
