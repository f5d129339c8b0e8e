// The public types of servers and of outgoing connections. Their comments are the API reference.
import type { TransferError } from './errors.js';
import type { RateLimiter } from './rate-limiter.js';

/** The address of one end of a connection. `path` is empty for a Unix socket without a name, as most clients have. */
export type Address = { address: string; port: number; family: 'IPv4' | 'IPv6' } | { path: string };

/** How to connect to a target. */
export interface TargetOptions {
  /** The local IP address to connect from. Default: chosen by the kernel. */
  localAddress?: string | undefined;
  /** Milliseconds until the connection must stand, with the resolution of the name. Default: that of the server. */
  connectTimeout?: number | undefined;
}

/** Where a connection goes: `'host:port'`, `'[::1]:port'`, `'unix:/path'`, or an object. */
export type Target = string | (({ host: string; port: number } | { path: string }) & TargetOptions);

/** One target, or several in turn. */
export type Route = Target | Target[];

/** A connection that was accepted and has no target yet. */
export interface Incoming {
  /** Number of the connection, unique in its server. */
  readonly id: number;
  /** Number of the listener that accepted it, in the order of the calls of `listen`. */
  readonly listener: number;
  readonly remoteAddress: Address;
  readonly localAddress: Address;
}

/** Options of a relay server. */
export interface RelayServerOptions {
  /** The route of every connection, followed without JavaScript, also while the event loop is blocked. */
  routes?: Route | undefined;
  /**
   * Called for a connection where `routes` is absent. `null` refuses the connection with `'no-route'`. If it throws or
   * rejects, the connection is refused with `'route-failed'`.
   */
  route?: ((incoming: Incoming) => Route | null | Promise<Route | null>) | undefined;
  /** Milliseconds that `route` may take; after them the connection is refused with `'route-timeout'`. Default 5000. */
  routeTimeout?: number | undefined;
  /** Connections at the same time; further ones are refused with `'limit'`. Default: no limit. */
  maxConnections?: number | undefined;
  /** Milliseconds without one byte moved, after which a connection fails with `ERR_IDLE_TIMEOUT`. Default: no limit. */
  idleTimeout?: number | undefined;
  /** Milliseconds that one direction may stay open after the other has ended. Default: no limit. */
  halfCloseTimeout?: number | undefined;
  /** Milliseconds until the connection to a target must stand. Default 10,000. */
  connectTimeout?: number | undefined;
  /** Bytes per second: a number limits each connection, a {@link RateLimiter} all of them together. Default: no limit. */
  rateLimit?:
    | number
    | RateLimiter
    | { tx?: number | RateLimiter | undefined; rx?: number | RateLimiter | undefined }
    | undefined;
  /** Wanted capacity of the kernel pipes in bytes. Default: chosen by the core. */
  pipeSize?: number | undefined;
  /** `false`: bytes pass through a private buffer. Default `true`. */
  zeroCopy?: boolean | undefined;
  /** Milliseconds of silence until the first keep-alive probe; `false` sends none. Default 60,000. */
  keepAlive?: number | false | undefined;
  /** Number of threads. Default: one per CPU. */
  workers?: number | undefined;
}

/** Why a connection was refused. */
export type RefusalReason = 'limit' | 'no-route' | 'route-timeout' | 'route-failed' | 'connect';

/** A connection that has ended. */
export interface ConnectionRecord {
  id: number;
  listener: number;
  client: Address;
  /** The target as it was written, or `null` without one. */
  target: string | null;
  /** Bytes from the client that the target's socket accepted. */
  tx: number;
  /** Bytes from the target that the client's socket accepted. */
  rx: number;
  total: number;
  zeroCopy: number;
  /** Milliseconds that the connect took; 0 without one. */
  connectMs: number;
  durationMs: number;
  error: TransferError | null;
}

/** A connection that was refused: its client was reset. */
export interface RefusalRecord extends ConnectionRecord {
  reason: RefusalReason;
}
