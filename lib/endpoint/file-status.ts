// Inspects a descriptor through Node and procfs, where there is no core for it.
import { constants, fstatSync, readFileSync } from 'node:fs';
import { badDescriptor } from '../contract/errors.js';

export interface FileStatus {
  isFile: boolean;
  appends: boolean;
  reads: boolean;
  writes: boolean;
}

/** Inspects a descriptor without the core. */
export function inspectFile(name: string, fd: number): FileStatus {
  let isFile;
  try {
    isFile = fstatSync(fd).isFile();
  } catch (error) {
    const { errno = 0, syscall = 'fstat' } = error as NodeJS.ErrnoException;
    throw badDescriptor(name, fd, errno, syscall);
  }
  const flags = flagsOf(fd);
  // Where the system does not report the mode, the first read or write fails instead.
  if (flags === undefined) return { isFile, appends: false, reads: true, writes: true };
  const mode = flags & (constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR);
  return {
    isFile,
    appends: (flags & constants.O_APPEND) !== 0,
    reads: mode !== constants.O_WRONLY,
    writes: mode !== constants.O_RDONLY,
  };
}

/** The flags that the descriptor was opened with. */
function flagsOf(fd: number): number | undefined {
  const octal = infoOf(fd, /^flags:\s*([0-7]+)/m);
  return octal === undefined ? undefined : Number.parseInt(octal, 8);
}

/** The descriptor's position in bytes. */
export function positionOf(fd: number): number | undefined {
  const position = infoOf(fd, /^pos:\s*(\d+)/m);
  return position === undefined ? undefined : Number(position);
}

/** A field of `/proc/self/fdinfo` (`proc_pid_fdinfo(5)`), which only Linux has. */
function infoOf(fd: number, wanted: RegExp): string | undefined {
  try {
    return wanted.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}

/** Whether two descriptors refer to one socket or pipe. */
export function isOneConnection(one: number, other: number): boolean {
  try {
    const [first, second] = [fstatSync(one, { bigint: true }), fstatSync(other, { bigint: true })];
    if (!first.isSocket() && !first.isFIFO()) return false;
    return first.dev === second.dev && first.ino === second.ino;
  } catch {
    // A descriptor that cannot be inspected fails when it is used.
    return false;
  }
}

/** Whether two descriptors refer to the same file. A copy within it would read what it has written, without end. */
export function isOneFile(one: number, other: number): boolean {
  const [first, second] = [fstatSync(one, { bigint: true }), fstatSync(other, { bigint: true })];
  return first.dev === second.dev && first.ino === second.ino;
}
