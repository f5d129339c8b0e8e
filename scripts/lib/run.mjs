// Runs the steps of a script as child processes.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A failed step. The message alone explains it, so no stack is printed. */
export class StepError extends Error {}

/**
 * Runs a command in the project's root with this process's stdout and stderr. Resolves with its status.
 * With `onLine`, each line of its stdout is also passed to that function. With `print`, that function prints its output.
 */
export function run(command, args, { onLine, print, env = process.env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env,
      stdio: ['ignore', onLine || print ? 'pipe' : 'inherit', print ? 'pipe' : 'inherit'],
    });
    const lines = Promise.all([
      eachLine(child.stdout, (line) => {
        (print ?? console.log)(line);
        onLine?.(line);
      }),
      eachLine(child.stderr, (line) => print(line)),
    ]);
    child.on('error', (cause) => {
      reject(new StepError(`${command} cannot be run: ${cause.message}`, { cause }));
    });
    child.on('close', (code, signal) => {
      void lines.then(() => resolve({ ok: code === 0, status: signal ?? `exit status ${code}` }));
    });
  });
}

/** Passes each line of a stream to a function. Resolves at the end; at once if there is no stream. */
function eachLine(stream, take) {
  if (stream === null) return Promise.resolve();
  const reader = createInterface({ input: stream }).on('line', take);
  return new Promise((done) => reader.on('close', done));
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
