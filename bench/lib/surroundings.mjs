// Helpers for the environment: scratch directories, and output and presence of programs.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Debian installs HAProxy and nginx here, outside the PATH of an ordinary user.
process.env.PATH += ':/usr/local/sbin:/usr/sbin:/sbin';

let scratchDirectory;

/** A directory that peers can read, removed at the end; with a name, a directory inside that they can write to. */
export function scratch(name) {
  if (scratchDirectory === undefined) {
    scratchDirectory = mkdtempSync(join(tmpdir(), 'fdsplice-bench-'));
    // The peers may run as another user.
    chmodSync(scratchDirectory, 0o755);
    process.on('exit', () => rmSync(scratchDirectory, { recursive: true, force: true }));
  }
  return name === undefined ? scratchDirectory : writable(join(scratchDirectory, name));
}

/** Makes a directory that every user may write to. */
export function writable(directory) {
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o777);
  return directory;
}

/** The output of a command; `undefined` if it fails. */
export function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

/** The reason why a program cannot be run, or `undefined`. */
export function notInstalled(program) {
  if (!program) return undefined;
  const { status } = spawnSync('sh', ['-c', `command -v ${program}`]);
  return status === 0 ? undefined : `${program} is not installed`;
}
