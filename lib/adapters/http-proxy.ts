/**
 * `fdsplice/http-proxy`: upgraded connections of http-proxy-3, http-proxy, httpxy and http-proxy-middleware become relays.
 * @module fdsplice/http-proxy
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type RelayOptions, relayOnPipe } from '../../index.js';

/** The part of a proxy of these packages that the adapter uses. */
export interface UpgradeProxy {
  ws(...args: never[]): unknown;
  on(
    event: 'proxyReqWs',
    listener: (request: ClientRequest, incoming: IncomingMessage, client: Socket) => void,
  ): unknown;
  emit(event: 'close', response: IncomingMessage, upstream: Socket, head: Buffer): unknown;
  emit(event: 'error', error: Error, incoming: IncomingMessage, client: Socket): unknown;
}

/** Options of the relays: those of `relay`, for each connection. */
export type RelayUpgradesOptions = Omit<RelayOptions, 'headFromA' | 'headFromB' | 'reject'>;

/** The options of each proxy that has the adapter. */
const optionsOf = new WeakMap<UpgradeProxy, RelayUpgradesOptions>();

/**
 * Relays the upgraded connections (WebSockets) of a proxy, and returns the proxy. Its events stay as they are: a target
 * that is reset is an 'error', every other ending a 'close'. In a relay the client is `a` and the target is `b`.
 *
 * A side that is reset resets the other side. A second call for the same proxy replaces the options.
 * @param options a mistake in them is an 'error' of the proxy for each connection.
 */
export function relayUpgrades<T extends UpgradeProxy>(proxy: T, options: RelayUpgradesOptions = {}): T {
  const isAdapted = optionsOf.has(proxy);
  optionsOf.set(proxy, options);
  if (isAdapted) return proxy;
  proxy.on('proxyReqWs', (request, incoming, client) => {
    // The package adds its own listener for this event later, so the pipes are awaited in time.
    request.once('upgrade', (response, upstream, head) => {
      let isReported = false;
      const reported = () => (isReported = true);
      upstream.once('end', reported).once('error', reported);
      relayOnPipe(client, { ...optionsOf.get(proxy), reject: false }).then(
        ({ error }) => {
          // The package reports an 'end' of the target. A relay that fails resets it instead.
          const isRelayed = error !== null && error.code !== 'ERR_STREAM_DESTROYED';
          const isDestroyed = error?.side === 'b' && error.code === 'ABORT_ERR';
          if (isRelayed && !isDestroyed && !isReported) proxy.emit('close', response, upstream, head);
        },
        (mistake: Error) => {
          client.destroy();
          upstream.destroy();
          proxy.emit('error', mistake, incoming, client);
        },
      );
    });
  });
  return proxy;
}
