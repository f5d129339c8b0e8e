// One connection of `fdsplice relay`: connects to the target, relays, and describes how it ended.
import type { Socket } from 'node:net';
import { relay, type TransferError, type TrafficResult } from '../../index.js';
import { type AddressSpec, formatAddress } from '../contract/address-text.js';
import type { RelayLimits } from './relays.js';
import type { ConnectionReport } from './report.js';
import { dial, nameSocket, reset } from './sockets.js';

export interface Connection {
  /** Rejects only if the relay could not be started; every other failure is in the report. */
  finished: Promise<ConnectionReport>;
  abort(reason: Error): void;
}

/** Connects an accepted client to the target and relays between the two until both have ended. */
export function startConnection(
  client: Socket,
  target: AddressSpec,
  settings: RelayLimits & { listen: AddressSpec },
): Connection {
  const { rateLimit, idleTimeout, halfCloseTimeout } = settings;
  const names = { client: nameClient(client, settings.listen), target: formatAddress(target) };
  const upstream = dial(target);

  let timeout: Error | undefined;
  const timer = setTimeout(() => {
    timeout = new Error(
      `connect failed: ETIMEDOUT on side b, no answer within ${settings.connectTimeout} ms`,
    );
    upstream.destroy(timeout);
  }, settings.connectTimeout);
  upstream.once('connect', () => clearTimeout(timer));

  // The relay waits for the connection of a socket and reports a failed connect as any other failure.
  const transfer = relay(client, upstream, { reject: false, rateLimit, idleTimeout, halfCloseTimeout });

  async function finish(): Promise<ConnectionReport> {
    try {
      const result = await transfer;
      const { error } = result;
      if (timeout === undefined) return { ...names, ...countsOf(result), error: error && describe(error) };
      const failed = { code: 'ETIMEDOUT', side: 'b', message: timeout.message };
      return { ...names, ...countsOf(result), error: failed };
    } catch (error) {
      reset(client, settings.listen);
      upstream.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  return { finished: finish(), abort: (reason) => transfer.abort(reason) };
}

/** The address of a client. A Unix client has none, so the path of the listening socket stands for it. */
export function nameClient(client: Socket, listen: AddressSpec): string {
  if (listen.kind === 'unix') {
    return formatAddress(listen);
  }
  const { remoteAddress: address, remotePort: port } = client;
  return address === undefined || port === undefined ? 'unknown' : nameSocket({ address, port });
}

function countsOf({ tx, rx, durationMs, engine }: TrafficResult) {
  return { tx, rx, durationMs, engine };
}

function describe({ code, side, message, afterEnd }: TransferError): ConnectionReport['error'] {
  return { code, side: side ?? null, message, ...(afterEnd === true ? { afterEnd } : {}) };
}
