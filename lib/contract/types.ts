import type { FileHandle } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { TransferError } from './errors.js';
import type { RateLimiter } from './rate-limiter.js';
import type { Traffic } from './traffic.js';

export type { Side, Traffic } from './traffic.js';

/**
 * What a copy reads from: the number of an open descriptor, a `FileHandle`, `process.stdin`, or a readable stream of
 * Node's. TCP and Unix sockets and pipes from child processes go through the kernel, other streams through JavaScript.
 */
export type Source = Readable | FileHandle | number | typeof process.stdin;

/**
 * What a copy writes to: the number of an open descriptor, a `FileHandle`, `process.stdout`, an HTTP response, or a
 * writable stream of Node's. TCP and Unix sockets and pipes to child processes go through the kernel, other streams
 * through JavaScript; of responses, `sendFile` sends those of HTTP/1.1 with a Content-Length through the kernel.
 */
export type Destination =
  Writable | ServerResponse | Http2ServerResponse | FileHandle | number | typeof process.stdout;

/**
 * One end of a relay: a TCP or Unix socket, which may still be connecting, any other duplex stream of Node's, as a TLS
 * socket or an HTTP/2 stream, or the number of an open descriptor of a socket. Streams belong to the relay from the call
 * on, numbers stay the caller's.
 */
export type RelayEnd = Duplex | number;

/** How a transfer ended. */
export interface TrafficResult extends Traffic {
  /** How many of `total` never passed through user space. */
  zeroCopy: number;
  /** Milliseconds from the call to the end. */
  durationMs: number;
  /** `native`: descriptors, moved by the Rust core. `stream`: Node streams, moved by JavaScript. */
  engine: 'native' | 'stream';
  /** The failure, with `reject: false`; otherwise `null`. */
  error: TransferError | null;
}

/** A running transfer: a promise of its result that can also be watched and aborted. */
export interface Transfer extends Promise<TrafficResult> {
  /** The counts at this moment; after the end, the final ones. */
  readonly traffic: Traffic;
  /**
   * Ends the transfer with `ABORT_ERR`, and `reason` as its cause; the counts are kept. Does nothing
   * once the transfer has ended.
   */
  abort(reason?: unknown): void;
  /** Aborts if still running and waits until everything is released. Never rejects. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What every transfer can be told. */
export interface CommonOptions {
  /** Stops the transfer: `name: 'AbortError'`, `code: 'ABORT_ERR'`, `cause: signal.reason`. */
  signal?: AbortSignal | undefined;
  /**
   * `false`: bytes pass through a private buffer, so that later changes of a source file cannot alter what was sent.
   * Default `true`: the kernel may send references to a file's pages, and a file that is overwritten after the
   * transfer can still change what arrives.
   */
  zeroCopy?: boolean | undefined;
  /**
   * Bytes per second, above 0: of this transfer, or, as a {@link RateLimiter}, of all that share it. Waiting happens
   * before reading, so that backpressure reaches the sender. Default: no limit.
   */
  rateLimit?: number | RateLimiter | undefined;
  /**
   * Milliseconds that may pass without one byte moved in any direction; then `ERR_IDLE_TIMEOUT`. Waiting for a
   * limiter is not idleness. Default: no limit.
   */
  idleTimeout?: number | undefined;
  /** Called with the counts while bytes move, and a last time before the transfer settles. */
  onProgress?: ((traffic: Traffic) => void) | undefined;
  /** Milliseconds between calls of `onProgress`. Default 1000. */
  progressInterval?: number | undefined;
  /** Wanted capacity of the kernel pipe in bytes, rounded and capped by the kernel. */
  pipeSize?: number | undefined;
  /** `false`: resolve with a result that holds `error` instead of rejecting. Default `true`. */
  reject?: boolean | undefined;
}

export interface CopyOptions extends CommonOptions {
  /**
   * First byte to read, source a regular file; its own position is then left alone. Default: the current position,
   * which advances by what was delivered.
   */
  start?: number | undefined;
  /**
   * Where to write, destination a regular file that was not opened with `O_APPEND`; its own position is then left
   * alone. Default: the current position, which advances; `O_APPEND` appends.
   */
  position?: number | undefined;
  /**
   * At most this many bytes of the source; not one more is consumed, what follows stays readable
   * there. Ending earlier, at the end of input, is success with a smaller count. Default: no limit.
   */
  length?: number | undefined;
  /**
   * When done, end the destination (FIN on a socket, `end()` on a stream). Default `false`. A number or `FileHandle` is
   * never closed, and `process.stdout` stays open.
   */
  endDestination?: boolean | undefined;
  /** Bytes to write before anything from the source; counted, and not part of `length`. */
  head?: Uint8Array | undefined;
}

export interface SendFileOptions extends CommonOptions {
  /** First byte to send. Default: 0 for a path or URL, the current position for a number or `FileHandle`. */
  start?: number | undefined;
  /** Last byte to send, capped to the file. Default: the last one it has at the start. */
  end?: number | undefined;
  /**
   * When done, end the destination (FIN on a socket, `end()` on a stream). Default `true` for an HTTP response, else
   * `false`. A number or `FileHandle` is never closed, and `process.stdout` stays open.
   */
  endDestination?: boolean | undefined;
}

export interface RelayOptions extends Omit<CommonOptions, 'rateLimit'> {
  /** As for every transfer, both directions together; or for each direction by itself. */
  rateLimit?:
    | number
    | RateLimiter
    | { tx?: number | RateLimiter | undefined; rx?: number | RateLimiter | undefined }
    | undefined;
  /**
   * Milliseconds that one direction may stay open after the other has ended; then `ERR_HALF_CLOSE_TIMEOUT`. Default:
   * no limit.
   */
  halfCloseTimeout?: number | undefined;
  /** Bytes already read from `a`, delivered to `b` first; counted. */
  headFromA?: Uint8Array | undefined;
  /** Bytes already read from `b`, delivered to `a` first; counted. */
  headFromB?: Uint8Array | undefined;
}

/** What this platform offers. */
export interface Capabilities {
  /** Whether the Rust core is there. */
  native: boolean;
  /** Why not, in one sentence; absent when it is. */
  reason?: string;
  /** Operating system, CPU and C library, as in `linux-x64-gnu`. */
  platform: string;
  /** Release of the running kernel. */
  kernel: string;
  splice: boolean;
  sendfile: boolean;
  copyFileRange: boolean;
  /** Largest capacity of a pipe an unprivileged process may ask for, in bytes; 0 without the core. */
  pipeMaxSize: number;
}

/** Counts of the whole process, all threads together, live. */
export interface Stats extends Traffic {
  /** Transfers running in the core. */
  active: number;
  /** Transfers that ran to their end. */
  completed: number;
  /** Transfers that ended in an error or abort. */
  failed: number;
  /** How many of `total` never passed through user space. */
  zeroCopy: number;
  /** Kernel pipes: in use, kept for the next use, and made since the process started. */
  pipes: { leased: number; idle: number; created: number };
}
