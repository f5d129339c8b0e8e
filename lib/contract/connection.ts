// The public types of outgoing connections. Their comments are the API reference.
import type { Address } from './server-types.js';

/** Options of {@link connect}. */
export interface ConnectOptions {
  /** Gives the connect up: `name: 'AbortError'`, `code: 'ABORT_ERR'`, `cause: signal.reason`. Default: none. */
  signal?: AbortSignal | undefined;
  /**
   * Milliseconds until the connection must stand, with the resolution of the name; then the connect fails with `ETIMEDOUT`.
   * Default: `connectTimeout` of the target, or 10,000.
   */
  timeout?: number | undefined;
  /**
   * The local IP address to connect from. Only addresses of its family are tried. Default: `localAddress` of the target, or
   * chosen by the kernel.
   */
  localAddress?: string | undefined;
}

/**
 * A connection that {@link connect} made. It can be an end of `relay`, a source and destination of `copy`, and a
 * destination of `sendFile`. Those are the only ways to its bytes: it has no methods to read or write.
 *
 * Ownership: `relay` takes it over and closes it at the end. After `copy` and `sendFile` it is the caller's again, and
 * bytes that they could not deliver are the first ones that the next transfer reads. Only one transfer may use it at a time:
 * a second one, and every one after a relay, fails with `ERR_INVALID_STATE`. One that was closed fails with
 * `ERR_STREAM_DESTROYED`. A connection that is garbage is closed, and an unused one does not keep the process alive.
 */
export interface Connection {
  /** The target in text: `host:port`, `[::1]:port` or `unix:/path`. */
  readonly target: string;
  /** The address of this end when the connection was made. */
  readonly localAddress: Address;
  /** The address that answered. */
  readonly remoteAddress: Address;
  /** Milliseconds from the call to the connection, with the resolution of the name. */
  readonly connectMs: number;
  /**
   * Closes the connection: its peer sees the end of input after everything that was sent. A transfer that uses it fails
   * with `ABORT_ERR` first; a relay then resets both sides. Does nothing when it is closed or its relay has ended.
   */
  close(): void;
  /** Closes as {@link close} does, a TCP connection by a reset: its peer sees `ECONNRESET`. */
  reset(): void;
  /** Closes the connection and waits until a transfer that used it has released it. Never rejects. */
  [Symbol.asyncDispose](): Promise<void>;
}
