// Processes that copy, or that something is copied from or to.
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

/** A process that does not outlive the test. */
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

/** Arguments for a Node that runs this program, which may import the package by its name. */
export function nodeArguments(program: string): string[] {
  return ['--input-type=module', '--eval', program];
}

/** How it ended, and what it wrote to pipes. */
export async function ended(child: ChildProcess, ms = 60_000): Promise<Ended> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  const what = `${child.spawnargs.join(' ').slice(0, 300)} ends`;
  const [code] = (await within(ms, what, once(child, 'close'))) as [number | null];
  return { code, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString() };
}
