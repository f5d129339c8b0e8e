/**
 * `fdsplice/proxy-chain`: the tunnels of a proxy-chain server become relays.
 * @module fdsplice/proxy-chain
 */
import type { IncomingMessage } from 'node:http';
import { relayOnPipe } from '../../index.js';
import type { RelayTunnelsOptions, TunnelRequest, TunnelServerOptions } from './proxy-chain/options.js';

export type { RelayTunnelsOptions, TunnelRequest, TunnelServerOptions };

/** The results of `prepareRequestFunction` that leave no tunnel to relay. */
type Prepared = { requestAuthentication?: unknown; customConnectServer?: unknown } | null | undefined;

/** The requests whose tunnels are relayed by the outer adapter of two. */
const claimed = new WeakSet<IncomingMessage>();

/**
 * Returns the options of a proxy-chain `Server` whose tunnels are relays: direct ones, and those through an upstream HTTP
 * or SOCKS proxy. Statistics and events stay as they are. In a relay the client is `a` and the target is `b`.
 *
 * A side that is reset resets the other side. For options that have the adapter already, the new `relayOptions` apply.
 *
 * @param relayOptions a mistake in them fails the request of each tunnel, as an error of `prepareRequestFunction` does
 */
export function relayTunnels<Options extends object>(
  options: Options & TunnelServerOptions,
  relayOptions: RelayTunnelsOptions = {},
): Options {
  const { rateLimit, ...others } = relayOptions;
  return {
    ...options,
    async prepareRequestFunction(this: unknown, tunnel: TunnelRequest) {
      const isInner = claimed.has(tunnel.request);
      claimed.add(tunnel.request);
      const prepared = (await options.prepareRequestFunction?.call(this as Options, tunnel)) as Prepared;
      const isTunnel = !(tunnel.isHttp || prepared?.requestAuthentication || prepared?.customConnectServer);
      if (isInner || !isTunnel) return prepared;
      // Only now is the user known to be the one that the request names.
      const limit = await (typeof rateLimit === 'function' ? rateLimit(tunnel) : rateLimit);
      const relayed = relayOnPipe(tunnel.request.socket, { ...others, rateLimit: limit, reject: false });
      // A mistake in the options has rejected already. Otherwise the relay goes on.
      return new Promise((resolve, reject) => {
        relayed.catch(reject);
        void Promise.resolve().then(() => resolve(prepared));
      });
    },
  };
}
