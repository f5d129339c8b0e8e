// Files given by their paths as the ends of a flow. Node opens them when the flow starts, and they are closed at its end.
import { type BigIntStats, close, constants, fstat, ftruncate, open } from 'node:fs';
import { promisify } from 'node:util';
import { type Failure, openFailure, pathMistake, unavailable } from '../contract/errors.js';
import type { PathEndpoint } from '../endpoint/endpoint.js';
import { countAsStuck, returnsSoon } from '../transfer/patience.js';
import { FileReader, FileWriter, type HeldFile } from './files.js';
import type { Reader, Writer } from './flow.js';

const [openIn, fstatIn, truncate] = [promisify(open), promisify(fstat), promisify(ftruncate)];
const NOTHING = Buffer.alloc(0);

/** With all bits of the inode, of which some file systems use more than a number of JavaScript has. */
const stat = (fd: number): Promise<BigIntStats> => fstatIn(fd, { bigint: true });

/** The device and inode of a file. */
export type Identity = Pick<BigIntStats, 'dev' | 'ino'>;

/** Resolves with what an open descriptor refers to; `undefined` if it cannot be inspected. */
export function identityOf(fd: number): Promise<Identity | undefined> {
  return stat(fd).catch(() => undefined);
}

/** Finds the other end of a copy, if that is a file. */
export type FindFile = () => Promise<Identity | undefined>;

async function isFile({ dev, ino }: Identity, find: FindFile | undefined): Promise<boolean> {
  const other = await find?.();
  return other !== undefined && other.dev === dev && other.ino === ino;
}

/** Gets a caller's mistake that is found when a path is opened. */
export type Refuse = (mistake: Error) => void;

/** A file from the start of its opening until it is closed. */
class OpenedPath {
  readonly #endpoint: PathEndpoint;
  readonly #refuse: Refuse;
  #opening: Promise<void> | undefined;
  #closed: Promise<void> = Promise.resolve();
  isReleased = false;

  constructor(endpoint: PathEndpoint, refuse: Refuse) {
    this.#endpoint = endpoint;
    this.#refuse = refuse;
  }

  /** Opens the file, and calls `opened` with it unless it was released meanwhile. `check` may refuse it. */
  open(
    flags: number,
    check: (fd: number, found: BigIntStats) => Promise<Error | undefined>,
    opened: (file: HeldFile) => void,
    fail: (failure: Failure) => void,
  ): void {
    const { side } = this.#endpoint;
    this.#opening = this.#open(flags, check, opened).catch((error: unknown) => {
      fail({ ...openFailure(error as NodeJS.ErrnoException), side });
    });
  }

  async #open(
    flags: number,
    check: (fd: number, found: BigIntStats) => Promise<Error | undefined>,
    opened: (file: HeldFile) => void,
  ): Promise<void> {
    const { path, side } = this.#endpoint;
    // Without O_NONBLOCK, opening a FIFO would wait for its other end.
    const fd = await openIn(path, flags | constants.O_NONBLOCK, 0o666).catch((error: unknown) => {
      // A FIFO without a reader, or a socket.
      if ((error as NodeJS.ErrnoException).code === 'ENXIO') return undefined;
      throw error;
    });
    if (fd === undefined) {
      this.#refuse(pathMistake(side, 'a FIFO without a reader, or a socket'));
      return;
    }
    const dispose = () => {
      this.#closed = new Promise((resolve) => close(fd, () => resolve()));
    };
    try {
      const found = await stat(fd);
      const mistake = this.isReleased
        ? undefined
        : found.isFile()
          ? await check(fd, found)
          : pathMistake(side, kindOf(found));
      if (mistake === undefined && !this.isReleased) {
        opened({ fd, dispose });
        return;
      }
      dispose();
      if (mistake !== undefined) this.#refuse(mistake);
    } catch (error) {
      dispose();
      throw error;
    }
  }

  /** Waits until the file is closed, unless a call on it hangs. */
  async released(): Promise<void> {
    this.isReleased = true;
    const opening = this.#opening;
    if (opening !== undefined && !(await returnsSoon(opening))) {
      countAsStuck(opening);
      return;
    }
    const closed = this.#closed;
    if (!(await returnsSoon(closed))) countAsStuck(closed);
  }
}

function kindOf(found: BigIntStats): string {
  if (found.isDirectory()) return 'a directory';
  if (found.isFIFO()) return 'a FIFO';
  return found.isBlockDevice() || found.isCharacterDevice() ? 'a device' : 'something else';
}

/** Reads a file that is opened by its path. */
export class PathReader implements Reader {
  readonly #path: OpenedPath;
  readonly #start: number;
  readonly #destination: FindFile | undefined;
  #inner: FileReader | undefined;
  #identity: Identity | undefined;
  #opened: () => void = () => {};
  /** Resolves when the file is open; never if that fails. */
  readonly opened = new Promise<void>((resolve) => (this.#opened = resolve));

  /** `destination` finds the file that the caller has opened to write. */
  constructor(endpoint: PathEndpoint, start: number | undefined, refuse: Refuse, destination?: FindFile) {
    this.#path = new OpenedPath(endpoint, refuse);
    this.#start = start ?? 0;
    this.#destination = destination;
  }

  /** The identity of the file, once it is open. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  get isAtEnd(): boolean {
    return this.#inner?.isAtEnd === true;
  }

  get isReady(): boolean {
    return this.#inner?.isReady === true;
  }

  get isOpen(): boolean {
    return this.#inner !== undefined;
  }

  start(wake: () => void, fail: (failure: Failure) => void): void {
    const check = async (_fd: number, found: BigIntStats): Promise<Error | undefined> => {
      this.#identity = found;
      return (await isFile(found, this.#destination)) ? unavailable(WITHIN_ONE_FILE) : undefined;
    };
    const opened = (file: HeldFile) => {
      this.#inner = new FileReader(file, { position: this.#start });
      this.#inner.start(wake, fail);
      this.#opened();
      wake();
    };
    this.#path.open(constants.O_RDONLY, check, opened, fail);
  }

  take(limit: number): Buffer | undefined {
    return this.#inner?.take(limit);
  }

  /** Nothing goes back: the file is closed. */
  async release(): Promise<Buffer> {
    this.#path.isReleased = true;
    await this.#inner?.release(NOTHING);
    await this.#path.released();
    return NOTHING;
  }
}

/** How the file of a {@link PathWriter} is opened. */
export interface WriterOptions {
  /** Where to write. The file is then not truncated. */
  position: number | undefined;
  /** Calls back when the source is open. The file is opened after that. Returns how to stop waiting. */
  after?: ((open: () => void) => () => void) | undefined;
  source?: FindFile | undefined;
}

const WITHIN_ONE_FILE = 'a copy within one file is for the native core alone';

/** Writes a file that is opened by its path. */
export class PathWriter implements Writer {
  readonly isEnded = false;
  readonly #path: OpenedPath;
  readonly #options: WriterOptions;
  #inner: FileWriter | undefined;
  #finish: (() => void) | undefined;
  #stopWaiting: () => void = () => {};

  constructor(endpoint: PathEndpoint, refuse: Refuse, options: WriterOptions) {
    this.#path = new OpenedPath(endpoint, refuse);
    this.#options = options;
  }

  get isFull(): boolean {
    return this.#inner?.isFull ?? true;
  }

  get pending(): number {
    return this.#inner?.pending ?? 0;
  }

  start(wake: () => void, accepted: (bytes: number) => void, fail: (failure: Failure) => void): void {
    const { position, after, source } = this.#options;
    const check = async (fd: number, found: BigIntStats): Promise<Error | undefined> => {
      if (await isFile(found, source)) {
        return position === undefined
          ? pathMistake('destination', 'the source itself')
          : unavailable(WITHIN_ONE_FILE);
      }
      // O_TRUNC would truncate a file that is the source.
      if (position === undefined && found.size > 0n && !this.#path.isReleased) await truncate(fd, 0);
      return undefined;
    };
    const opened = (file: HeldFile) => {
      this.#inner = new FileWriter(file, position ?? 0);
      this.#inner.start(wake, accepted, fail);
      this.#finish?.();
      wake();
    };
    const begin = () => {
      if (this.#path.isReleased) return;
      this.#path.open(constants.O_WRONLY | constants.O_CREAT, check, opened, fail);
    };
    if (after === undefined) begin();
    else this.#stopWaiting = after(begin);
  }

  write(chunk: Buffer): void {
    this.#inner?.write(chunk);
  }

  finish(end: boolean, done: () => void): void {
    this.#finish = () => this.#inner?.finish(end, done);
    this.#finish();
  }

  async release(): Promise<Buffer> {
    this.#path.isReleased = true;
    this.#stopWaiting();
    const rest = (await this.#inner?.release()) ?? NOTHING;
    await this.#path.released();
    return rest;
  }
}
