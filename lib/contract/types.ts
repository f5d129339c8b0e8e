// The public types: what the functions accept, return and report. Their comments are the API reference.
import type { FileHandle } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Connection } from './connection.js';
import type { TransferError } from './errors.js';
import type { RateLimiter } from './rate-limiter.js';
import type { Traffic } from './traffic.js';

export type { Side, Traffic } from './traffic.js';

/**
 * The source of a copy: the number of an open descriptor, a `FileHandle`, a {@link Connection}, `process.stdin`, a readable Node stream, or the
 * path or `file:` URL of a regular file. The kernel moves the bytes of files, descriptors, TCP and Unix sockets and pipes
 * from child processes; bytes of other streams pass through JavaScript, and so do those of a socket that has a `read` or
 * `push` of its own. The same socket cannot be both source and destination, however it is passed: as a socket, a Proxy
 * around it, a number, or `process.stdin`. A stream that is piped to another one is no source: the pipe and the copy would
 * share its bytes.
 */
export type Source = Readable | FileHandle | Connection | number | typeof process.stdin | string | URL;

/**
 * The destination of a copy or `sendFile`: the number of an open descriptor, a `FileHandle`, a {@link Connection}, `process.stdout`, an HTTP
 * response, or a writable Node stream. The kernel moves the bytes to descriptors, TCP and Unix sockets, pipes to child
 * processes, and plain HTTP/1.1 responses with a Content-Length, which `sendFile` sets itself; bytes to other streams
 * pass through JavaScript, and so do those to a socket that has a `write` or `end` of its own.
 */
export type Destination =
  Writable | ServerResponse | Http2ServerResponse | FileHandle | Connection | number | typeof process.stdout;

/**
 * One end of a relay: a TCP or Unix socket, which may still be connecting, a {@link Connection}, any other Node duplex stream such as a TLS
 * socket or an HTTP/2 stream, or the number of an open socket descriptor. The relay owns a stream or connection from the call
 * on and destroys it at the end. A number stays the caller's and is never closed. The two ends may be piped to each other; a pipe
 * to or from a third stream is a caller's mistake.
 */
export type RelayEnd = Duplex | Connection | number;

/** How a transfer ended. */
export interface TrafficResult extends Traffic {
  /** How many of the `total` bytes never passed through user space. */
  zeroCopy: number;
  /** Milliseconds from the call to the end. */
  durationMs: number;
  /** `native`: descriptors, moved by the Rust core. `stream`: Node streams, moved by JavaScript. */
  engine: 'native' | 'stream';
  /** The failure if the option `reject` was `false`; otherwise `null`. */
  error: TransferError | null;
}

/** A running transfer: a promise of its result, with live counts and a way to abort it. */
export interface Transfer extends Promise<TrafficResult> {
  /** The counts at this moment; the final ones after the end. */
  readonly traffic: Traffic;
  /**
   * Ends the transfer with `ABORT_ERR` and `reason` as its cause; the counts are kept. Does nothing after the end.
   */
  abort(reason?: unknown): void;
  /** Aborts the transfer if it is still running and waits until everything is released. Never rejects. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Options of every transfer. */
export interface CommonOptions {
  /**
   * Stops the transfer: `name: 'AbortError'`, `code: 'ABORT_ERR'`, `cause: signal.reason`; the counts are kept.
   * Default: none.
   *
   * A call on a file is given 0.4 s to return. If the file system does not answer (FUSE, NFS), the transfer ends without
   * it, and its sockets are broken off, because the call holds them. What the call still moves is in no count.
   */
  signal?: AbortSignal | undefined;
  /**
   * `false`: bytes pass through a private buffer, so that later changes to a source file cannot alter what was sent.
   * Default `true`: the kernel may send references to the pages of a file, and overwriting the file after the transfer
   * can still change what arrives.
   */
  zeroCopy?: boolean | undefined;
  /**
   * Bytes per second, above 0: a number limits this transfer, a {@link RateLimiter} all transfers that share it. The
   * transfer waits before it reads, so that backpressure reaches the sender. Default: no limit.
   */
  rateLimit?: number | RateLimiter | undefined;
  /**
   * Milliseconds without one byte moved in any direction, after which the transfer fails with `ERR_IDLE_TIMEOUT`.
   * The time counts from the call. Waiting for a rate limit is not idleness; waiting for a file system that does not
   * answer is, and the transfer then ends as described for `signal`. Default: no limit.
   */
  idleTimeout?: number | undefined;
  /**
   * Called with the counts while bytes move, and a last time before the transfer settles. If it throws, the transfer
   * fails with the thrown value as its `cause`.
   */
  onProgress?: ((traffic: Traffic) => void) | undefined;
  /** Milliseconds between calls of `onProgress`. Default 1000. */
  progressInterval?: number | undefined;
  /** Wanted capacity of the kernel pipe in bytes, rounded and capped by the kernel. Default: chosen by the core. */
  pipeSize?: number | undefined;
  /** `false`: a failed transfer resolves with a result whose `error` is set, instead of rejecting. Default `true`. */
  reject?: boolean | undefined;
}

/** Options of {@link copy}. */
export interface CopyOptions extends CommonOptions {
  /**
   * First byte to read; the source must be a regular file, and its own position is left alone. Default: the current
   * position, which advances by the bytes delivered; the first byte of a path.
   */
  start?: number | undefined;
  /**
   * Where to write; the destination must be a regular file that was not opened with `O_APPEND`, and its own position is
   * left alone. Default: the current position, which advances; with `O_APPEND` the bytes are appended. The file of a path
   * is truncated without `position`, and keeps its contents with it.
   */
  position?: number | undefined;
  /**
   * Maximum number of bytes to take from the source. No byte after them is consumed: it stays readable there. If the
   * source ends earlier, the copy succeeds with a smaller count. Default: no limit.
   */
  length?: number | undefined;
  /**
   * Whether to end the destination when done (FIN on a socket, `end()` on a stream). A number or `FileHandle` is never
   * closed, `process.stdout` and `process.stderr` stay open, and the file of a path is always closed. Default `false`.
   */
  endDestination?: boolean | undefined;
  /** Bytes to write before anything from the source; counted, and not part of `length`. */
  head?: Uint8Array | undefined;
}

/** Options of {@link sendFile}. */
export interface SendFileOptions extends CommonOptions {
  /** First byte to send. Default: 0 for a path or URL, the current position for a number or `FileHandle`. */
  start?: number | undefined;
  /** Last byte to send, inclusive, capped to the size of the file. Default: the last byte at the start of the transfer. */
  end?: number | undefined;
  /**
   * Whether to end the destination when done (FIN on a socket, `end()` on a stream). A number or `FileHandle` is never
   * closed, and `process.stdout` and `process.stderr` stay open. Default `true` for an HTTP response, otherwise `false`.
   */
  endDestination?: boolean | undefined;
}

/** Options of {@link relay}. */
export interface RelayOptions extends Omit<CommonOptions, 'rateLimit'> {
  /**
   * Bytes per second, above 0: a number or {@link RateLimiter} limits both directions together, `{ tx, rx }` each
   * direction separately (`tx`: from `a` to `b`). Default: no limit.
   */
  rateLimit?:
    | number
    | RateLimiter
    | { tx?: number | RateLimiter | undefined; rx?: number | RateLimiter | undefined }
    | undefined;
  /**
   * Milliseconds that one direction may stay open after the other has ended, after which the relay fails with
   * `ERR_HALF_CLOSE_TIMEOUT`. Default: no limit.
   */
  halfCloseTimeout?: number | undefined;
  /** Bytes already read from `a`. They are delivered to `b` first, and counted. */
  headFromA?: Uint8Array | undefined;
  /** Bytes already read from `b`. They are delivered to `a` first, and counted. */
  headFromB?: Uint8Array | undefined;
}

/** The features of this platform. */
export interface Capabilities {
  /** Whether the Rust core is available. */
  native: boolean;
  /** Why it is not, in one sentence; absent if it is. */
  reason?: string;
  /** Operating system, CPU and C library, for example `linux-x64-gnu`. */
  platform: string;
  /** Release of the running kernel. */
  kernel: string;
  splice: boolean;
  sendfile: boolean;
  copyFileRange: boolean;
  /** Largest pipe capacity that an unprivileged process may request, in bytes; 0 without the core. */
  pipeMaxSize: number;
}

/** Live counts of the whole process, all threads together; without the core, of this thread. */
export interface Stats extends Traffic {
  /** Transfers that are running. */
  active: number;
  /** Transfers that ended without a failure. */
  completed: number;
  /** Transfers that failed or were aborted. */
  failed: number;
  /** How many of the `total` bytes never passed through user space. */
  zeroCopy: number;
  /** Kernel pipes: in use, kept for the next use, and created since the process started. */
  pipes: { leased: number; idle: number; created: number };
  /**
   * Memory of the core for bytes that were taken from a source and not yet accepted by a destination: bytes in use, and
   * the budget for all transfers. While the budget is used up, a direction may exceed it by 32 KiB. Bytes in kernel pipes,
   * in a head that the caller passed and in Node streams are not counted. Both are 0 without the core.
   */
  held: { bytes: number; limit: number };
  /**
   * Threads that make calls on files. `running`: threads of the core, at most 512. `stuck`: threads, of the core or of
   * Node, in a call that has not returned although its transfer has ended, because the file system does not answer.
   * `awaited`: calls that wait for a thread of the core.
   */
  threads: { running: number; stuck: number; awaited: number };
}
