// fdsplice/proxy-chain: the tunnels of a proxy-chain server become relays.
import type { IncomingMessage } from 'node:http';
import { type RelayOptions, relayOnPipe } from '../../index.js';

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
}

/** Options of the relays. */
export interface RelayTunnelsOptions extends Omit<RelayOptions, 'rateLimit'> {
  /** A limit as that of `relay`, or a function that returns one for a tunnel, for example the limiter of its user. */
  rateLimit?: RelayOptions['rateLimit'] | ((tunnel: TunnelRequest) => RelayOptions['rateLimit']);
}

/**
 * Returns the options of a proxy-chain `Server` whose tunnels are relays: direct ones, and those through an upstream HTTP
 * or SOCKS proxy. Statistics and events stay as they are. In a relay the client is `a` and the target is `b`.
 *
 * A side that is reset resets the other side. A mistake in `relayOptions` ends the connection of the tunnel with that error.
 */
export function relayTunnels<Options extends TunnelServerOptions>(
  options: Options,
  relayOptions: RelayTunnelsOptions = {},
): Options {
  const { rateLimit, ...others } = relayOptions;
  return {
    ...options,
    prepareRequestFunction(this: unknown, tunnel: TunnelRequest): unknown {
      const { socket } = tunnel.request;
      if (!tunnel.isHttp) {
        const limit = typeof rateLimit === 'function' ? rateLimit(tunnel) : rateLimit;
        relayOnPipe(socket, { ...others, rateLimit: limit, reject: false }).catch((mistake: Error) =>
          socket.destroy(mistake),
        );
      }
      return options.prepareRequestFunction?.call(this as Options, tunnel);
    },
  };
}
