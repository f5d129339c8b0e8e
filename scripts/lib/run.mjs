import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A step that failed: `message` is all a person needs, without a stack. */
export class StepError extends Error {}

/**
 * Runs a command in the project's root with our stdout and stderr, and resolves with its exit status.
 * With `onLine`, each line of its stdout goes there as well.
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
      void lines.then(() => resolve({ ok: code === 0, how: signal ?? `exit status ${code}` }));
    });
  });
}

/** As `run`, but anything other than success is a `StepError`. */
export async function mustRun(command, args, options) {
  const { ok, how } = await run(command, args, options);
  if (!ok) throw new StepError(`${command} ${args.join(' ')}: ${how}`);
}

/** Runs a script's `main`, turning a `StepError` into one line and exit status 1. */
export async function runMain(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
