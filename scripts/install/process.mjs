import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Runs a program to its end and gives its stdout; anything but success is an error with all that it wrote. */
export async function output(command, args, { cwd, env, timeout = 300_000 } = {}) {
  try {
    const options = { cwd, env, timeout, killSignal: 'SIGKILL', maxBuffer: 256 << 20 };
    const { stdout } = await execute(command, args, options);
    return stdout;
  } catch (error) {
    const how = error.killed ? `not done in ${timeout} ms` : `exit status ${error.code}`;
    const said = [error.stdout, error.stderr].filter(Boolean).join('\n').trim();
    throw new Error(`${command} ${args.join(' ')}: ${how}\n${said}`, { cause: error });
  }
}

/** A server in the background, and how to end it. */
export function serve(command, args, { cwd, env }) {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  return {
    said: () => said,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
  };
}
