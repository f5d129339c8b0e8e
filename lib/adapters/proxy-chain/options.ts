// The part of a proxy-chain server's options that the adapter uses, and the options of its relays.
import type { IncomingMessage } from 'node:http';
import type { RelayOptions } from '../../../index.js';

/** The argument of `prepareRequestFunction`. */
export interface TunnelRequest {
  connectionId: unknown;
  request: IncomingMessage;
  username: string;
  password: string;
  hostname: string;
  port: number;
  /** Whether this is a plain HTTP request and not a tunnel. */
  isHttp: boolean;
}

/** The part of the options of a server that the adapter uses. */
export interface TunnelServerOptions {
  prepareRequestFunction?(tunnel: TunnelRequest): unknown;
  /** A server is refused: the adapter takes the options from which one is made. */
  listen?: never;
}

type RateLimit = RelayOptions['rateLimit'];

/** Options of the relays: those of `relay`, for each tunnel. */
export interface RelayTunnelsOptions extends Omit<
  RelayOptions,
  'rateLimit' | 'headFromA' | 'headFromB' | 'reject'
> {
  /** A limit as for `relay`, or a function that returns one for a tunnel, for example the limiter of its user. */
  rateLimit?: RateLimit | ((tunnel: TunnelRequest) => RateLimit | Promise<RateLimit>);
}
