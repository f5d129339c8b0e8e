import type { Dispatcher, Failure, NativeEnd, NativeFiles, NativeRateLimiter, Refusal } from '../binding.js';
import { unavailable } from '../contract/errors.js';
import { keepProcessAlive, letProcessEnd } from './keep-alive.js';
import { type Binding, loadBinding, platform } from './loader.js';
import type { Side } from '../contract/types.js';

export type { NativeEnd, NativeRateLimiter };

/** How a transfer in the core ended. */
export interface Outcome {
  tx: number;
  rx: number;
  zeroCopy: number;
  /** Whether the source, or `a`, was read to its end. */
  aEnded: boolean;
  bEnded: boolean;
  /** Absent after a clean end. */
  error?: Failure | undefined;
}

/** A transfer in the core, which goes by a number there. */
export class NativeTransfer {
  readonly #dispatcher: Dispatcher;
  readonly #id: number;

  constructor(dispatcher: Dispatcher, id: number) {
    this.#dispatcher = dispatcher;
    this.#id = id;
  }

  traffic(): { tx: number; rx: number } {
    return this.#dispatcher.traffic(this.#id);
  }

  abort(): void {
    this.#dispatcher.abort(this.#id);
  }
}

/** Tries, once a thread, whether Node can serve the binding. `postponed` means that this could not be tried yet. */
export type Probe = (binding: Binding) => 'passed' | 'postponed' | { reason: string };

let { binding: usable, reason: unusable } = loadBinding();
let probe: Probe | undefined;

/** Sets the probe that runs when the binding is first needed. A floor above wires it, because it depends on Node. */
export function setProbe(check: Probe): void {
  probe = check;
}

/** The binding, if this platform and this Node have one. */
export function binding(): Binding | undefined {
  if (probe !== undefined && usable !== undefined) runProbe(probe, usable);
  return usable;
}

/** Why there is no binding. */
export function reason(): string | undefined {
  binding();
  return unusable;
}

function runProbe(check: Probe, found: Binding): void {
  probe = undefined;
  const verdict = check(found);
  if (verdict === 'postponed') {
    probe = check;
  } else if (verdict !== 'passed') {
    usable = undefined;
    unusable = `no native core for ${platform}: ${verdict.reason}`;
  }
}

const waiting = new Map<number, (outcome: Outcome) => void>();
let lastId = 0;
let dispatcher: Dispatcher | undefined;

/** The binding, for callers that cannot do without. */
export function required(): Binding {
  const found = binding();
  if (found !== undefined) return found;
  throw unavailable(unusable ?? '');
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

/** What of a file is to be sent, as far as that is known before it is open. */
export interface Wanted {
  start: number | undefined;
  /** The last byte. */
  end: number | undefined;
  /** Whether the bytes, where they are few, may be read when the file is opened. */
  readAhead: boolean;
}

/** A regular file that the core has opened to send it. */
export class CoreFile {
  readonly #files: NativeFiles;
  /** What it goes by in the core. */
  readonly id: number;
  /** Bytes in it when it was opened. */
  readonly size: number;
  /** Good until it is given to a transfer; -1 where its bytes are at hand. */
  readonly fd: number;

  constructor(files: NativeFiles, id: number, size: number, fd: number) {
    this.#files = files;
    this.id = id;
    this.size = size;
    this.fd = fd;
  }

  /** A copy of the bytes that are at hand. */
  get contents(): Buffer | undefined {
    return this.#files.unsent(this.id) ?? undefined;
  }

  /** Sends the bytes that are at hand as far as a socket takes them without waiting, and tells whether that was all. */
  sendNow(socket: number): boolean {
    return this.#files.sendNow(this.id, socket);
  }

  /** Closes it if no transfer has taken it. */
  release(): void {
    this.#files.release(this.id);
  }
}

let files: NativeFiles | undefined;
let lastFile = 0;

/** Opens a file to send it, or tells why that cannot be. */
export async function openFile(
  path: string,
  { start = 0, end, readAhead }: Wanted,
): Promise<{ file: CoreFile; refusal?: never } | { file?: never; refusal: Refusal }> {
  const place = (files ??= new (required().NativeFiles)());
  const id = (lastFile = (lastFile + 1) % 2 ** 32);
  const opened = await place.open(id, path, start, end, readAhead);
  return Array.isArray(opened) ? { file: new CoreFile(place, id, ...opened) } : { refusal: opened };
}

export function isSame(one: NativeEnd, other: NativeEnd): boolean {
  return required().isSame(one, other);
}

/** Starts a transfer in the core and calls `settled` on this thread when it has ended. */
export function start(
  begin: (dispatcher: Dispatcher, id: number) => void,
  settled: (outcome: Outcome) => void,
): NativeTransfer {
  const id = nextId();
  const core = dispatch();
  begin(core, id);
  waiting.set(id, settled);
  keepProcessAlive();
  return new NativeTransfer(core, id);
}

function nextId(): number {
  do {
    lastId = (lastId + 1) % 2 ** 32;
  } while (waiting.has(lastId));
  return lastId;
}

function dispatch(): Dispatcher {
  if (dispatcher !== undefined) return dispatcher;
  const native = required();
  files ??= new native.NativeFiles();
  const created = new native.Dispatcher(deliver, files);
  dispatcher = created;
  // process.exit() ends the core's threads where they stand: what still runs is reset before.
  process.on('exit', () => created.abortAll());
  return created;
}

/** Of each outcome seven numbers, and of those whose last one is not 0 the failure, in the same order. */
function deliver(numbers: number[], failures: Failure[]): void {
  let failed = 0;
  for (let at = 0; at < numbers.length; at += 7) {
    const [id = 0, tx = 0, rx = 0, zeroCopy = 0, aEnded, bEnded, hasFailed] = numbers.slice(at, at + 7);
    const error = hasFailed === 0 ? undefined : failures[failed++];
    const settled = waiting.get(id);
    if (waiting.delete(id)) letProcessEnd();
    settled?.({ tx, rx, zeroCopy, aEnded: aEnded !== 0, bEnded: bEnded !== 0, error });
    dispatcher?.forget(id);
  }
}
