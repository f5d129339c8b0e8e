// Runs other programs.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Runs a program to its end and resolves with its stdout. Rejects with its whole output unless it succeeds. */
export async function output(command, args, { cwd, env, timeout = 300_000 } = {}) {
  try {
    const options = { cwd, env, timeout, killSignal: 'SIGKILL', maxBuffer: 256 << 20 };
    const { stdout } = await execute(command, args, options);
    return stdout;
  } catch (error) {
    const ending = error.killed ? `not done in ${timeout} ms` : `exit status ${error.code}`;
    const written = [error.stdout, error.stderr].filter(Boolean).join('\n').trim();
    throw new Error(`${command} ${args.join(' ')}: ${ending}\n${written}`, { cause: error });
  }
}

/** Starts a server in the background. */
export function serve(command, args, { cwd, env }) {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let written = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (written += chunk));
  return {
    output: () => written,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
  };
}
