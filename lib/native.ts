import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { unavailable } from './errors.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';
import type * as bindingModule from './binding.js';
import type {
  Dispatcher,
  NativeEnd,
  NativeRateLimiter,
  NativeTransfer,
  Outcome,
  Refusal,
} from './binding.js';
import type { Side } from './types.js';

type Binding = typeof bindingModule;

export type { NativeEnd, NativeRateLimiter, NativeTransfer, Outcome };

const load = createRequire(import.meta.url);

/** Operating system, CPU and C library, as the platform packages are named. */
export const platform = [
  process.platform,
  process.arch,
  ...(process.platform === 'linux' ? [libc()] : []),
].join('-');

function libc(): 'gnu' | 'musl' {
  // Without it, the report looks up the name of every address of the machine.
  Object.assign(process.report, { excludeNetwork: true });
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
}

function loadBinding(): { binding: Binding } | { binding: undefined; reason: string } {
  if (process.env['FDSPLICE_ENGINE'] === 'stream') {
    return { binding: undefined, reason: 'FDSPLICE_ENGINE=stream asks for the stream engine' };
  }
  // A checkout has the binary it built at its root, an installation has a package for its platform.
  const local = new URL(`../../fdsplice.${platform}.node`, import.meta.url);
  const name = `@fdsplice/${platform}`;
  try {
    return { binding: load(existsSync(local) ? fileURLToPath(local) : name) as Binding };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'MODULE_NOT_FOUND' ? `the package ${name} is not installed` : message;
    return { binding: undefined, reason: `no native core for ${platform}: ${reason}` };
  }
}

const loaded = loadBinding();

/** The binding, if there is one for this platform. */
export const { binding } = loaded;

/** Why there is no binding. */
export const reason = loaded.binding === undefined ? loaded.reason : undefined;

const waiting = new Map<number, (outcome: Outcome) => void>();
let lastId = 0;
let dispatcher: Dispatcher | undefined;

/** The binding, for callers that cannot do without. */
export function required(): Binding {
  if (binding !== undefined) return binding;
  throw unavailable(reason ?? '');
}

/** Duplicates a descriptor for a transfer, or tells why it cannot play that part in one. */
export function openEnd(
  fd: number,
  side: Side,
  isNodeTcp = false,
): { end: NativeEnd } | { end: undefined; refusal: Refusal } {
  const native = required();
  const opened = native.openEnd(fd, side, isNodeTcp);
  return opened instanceof native.NativeEnd ? { end: opened } : { end: undefined, refusal: opened };
}

export function isSame(one: NativeEnd, other: NativeEnd): boolean {
  return required().isSame(one, other);
}

/** Starts a transfer in the core and calls `settled` on this thread when it has ended. */
export function start(
  begin: (dispatcher: Dispatcher, id: number) => NativeTransfer,
  settled: (outcome: Outcome) => void,
): NativeTransfer {
  const id = nextId();
  const transfer = begin(dispatch(), id);
  waiting.set(id, settled);
  keepProcessAlive();
  return transfer;
}

function nextId(): number {
  do {
    lastId = (lastId + 1) % 2 ** 32;
  } while (waiting.has(lastId));
  return lastId;
}

function dispatch(): Dispatcher {
  if (dispatcher !== undefined) return dispatcher;
  const created = new (required().Dispatcher)(deliver);
  dispatcher = created;
  // process.exit() ends the core's threads where they stand: what still runs is reset before.
  process.on('exit', () => created.abortAll());
  return created;
}

function deliver(outcomes: Outcome[]): void {
  for (const outcome of outcomes) {
    const settled = waiting.get(outcome.id);
    if (waiting.delete(outcome.id)) letProcessEnd();
    settled?.(outcome);
  }
}
