// Files to copy from and to, in temporary directories that the end of the test removes.
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  type ReadStream,
  readSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { isNative } from './engine.js';

export const KiB = 1 << 10;
export const MiB = 1 << 20;
export const GiB = 1 << 30;

export const sha256 = (...parts: (string | Buffer)[]): string =>
  createHash('sha256')
    .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
    .digest('hex');

export function directory(t: ExecutionContext, parent = tmpdir()): string {
  const path = mkdtempSync(join(parent, 'fdsplice-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export interface Sample {
  path: string;
  bytes: Buffer;
}

/** A file of random bytes. */
export function sample(t: ExecutionContext, size: number): Sample {
  const bytes = randomBytes(size);
  const path = join(directory(t), 'sample');
  writeFileSync(path, bytes);
  return { path, bytes };
}

/** Opens a file and returns its descriptor. The end of the test closes it. */
export function opened(t: ExecutionContext, path: string, flags: string | number = 'r'): number {
  const fd = openSync(path, flags);
  t.teardown(() => {
    closeSync(fd);
  });
  return fd;
}

/** A descriptor that accepts all bytes: /dev/null, or a regular file on streams, which serve no devices. */
export function sink(t: ExecutionContext): number {
  return opened(t, isNative ? '/dev/null' : join(directory(t), 'sink'), 'w');
}

/** The file position of a descriptor, from /proc, because a read would move it. */
export function positionOf(fd: number): number {
  const info = Buffer.alloc(4096);
  const proc = openSync(`/proc/self/fdinfo/${fd}`, 'r');
  const text = info.toString('latin1', 0, readSync(proc, info));
  closeSync(proc);
  return Number(/^pos:\t(\d+)/m.exec(text)?.[1]);
}

/** A directory in memory with room for `bytes` bytes, if this machine has one. */
export function memoryWithRoom(bytes: number): string | undefined {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize >= bytes ? '/dev/shm' : undefined;
  } catch {
    return undefined;
  }
}

/** A stream of a file. A copy leaves it open when it does not take all of it. */
export function fileStream(t: ExecutionContext, path: string): ReadStream {
  const stream = createReadStream(path);
  t.teardown(() => void stream.destroy());
  return stream;
}
