// Runs the steps of a script as child processes.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A failed step. The message alone explains it, so no stack is printed. */
export class StepError extends Error {}

/**
 * Runs a command in the project's root with this process's stdout and stderr. Resolves with its status.
 * With `onLine`, each line of its stdout is also passed to that function.
 */
export function run(command, args, { onLine, env = process.env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env,
      stdio: ['ignore', onLine ? 'pipe' : 'inherit', 'inherit'],
    });
    let lines = Promise.resolve();
    if (onLine) {
      const reader = createInterface({ input: child.stdout });
      lines = new Promise((done) => reader.on('close', done));
      reader.on('line', (line) => {
        console.log(line);
        onLine(line);
      });
    }
    child.on('error', (cause) => {
      reject(new StepError(`${command} cannot be run: ${cause.message}`, { cause }));
    });
    child.on('close', (code, signal) => {
      void lines.then(() => resolve({ ok: code === 0, status: signal ?? `exit status ${code}` }));
    });
  });
}

/** Like `run`, but rejects with a `StepError` unless the command succeeds. */
export async function mustRun(command, args, options) {
  const { ok, status } = await run(command, args, options);
  if (!ok) throw new StepError(`${command} ${args.join(' ')}: ${status}`);
}

/** Runs a script's `main`. Turns a `StepError` into one line and exit status 1. */
export async function runMain(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
