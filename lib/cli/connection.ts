import { connect, type Socket } from 'node:net';
import { relay, type TransferError, type TrafficResult } from '../../index.js';
import { type Address, formatAddress, formatHostPort } from './address.js';
import type { ConnectionReport } from './report.js';

/** What the server does with a connection, whichever side of it: dead peers are noticed after minutes, not hours. */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 60_000 };

export interface ConnectionSettings {
  listen: Address;
  target: Address;
  /** Milliseconds. */
  connectTimeout: number;
}

export interface Connection {
  /** Rejects only if the relay could not be started at all; every other failure is in the report. */
  finished: Promise<ConnectionReport>;
  abort(reason: Error): void;
}

/** Connects an accepted client to the target and relays between the two until both have ended. */
export function startConnection(client: Socket, settings: ConnectionSettings): Connection {
  const { target } = settings;
  const names = { client: nameClient(client, settings.listen), target: formatAddress(target) };
  const upstream = connect({
    ...(target.kind === 'unix' ? { path: target.path } : { host: target.host, port: target.port }),
    ...KEEP_ALIVE,
    allowHalfOpen: true,
  });

  let timeout: Error | undefined;
  const timer = setTimeout(() => {
    timeout = new Error(
      `connect failed: ETIMEDOUT on side b, no answer within ${settings.connectTimeout} ms`,
    );
    upstream.destroy(timeout);
  }, settings.connectTimeout);
  upstream.once('connect', () => clearTimeout(timer));

  // The relay awaits a socket that is still connecting, and then reports its failure like any other.
  const transfer = relay(client, upstream, { reject: false });

  async function finish(): Promise<ConnectionReport> {
    try {
      const result = await transfer;
      const error = timeout ? { code: 'ETIMEDOUT', side: 'b', message: timeout.message } : errorOf(result);
      return { ...names, ...countsOf(result), error };
    } catch (error) {
      turnAway(client, settings.listen);
      upstream.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  return { finished: finish(), abort: (reason) => transfer.abort(reason) };
}

/** Ends a connection that is not relayed so that its client cannot take it for complete, where there is a reset. */
export function turnAway(client: Socket, listen: Address): void {
  if (listen.kind === 'tcp') {
    client.resetAndDestroy();
  } else {
    client.destroy();
  }
}

/** A Unix client has no address of its own: it is named by the path it came through. */
export function nameClient(client: Socket, listen: Address): string {
  if (listen.kind === 'unix') {
    return formatAddress(listen);
  }
  const { remoteAddress, remotePort } = client;
  return remoteAddress === undefined || remotePort === undefined
    ? 'unknown'
    : formatHostPort(remoteAddress, remotePort);
}

function countsOf({ tx, rx, durationMs, engine }: TrafficResult) {
  return { tx, rx, durationMs, engine };
}

function errorOf({ error }: TrafficResult): ConnectionReport['error'] {
  return error && describe(error);
}

function describe({ code, side, message }: TransferError) {
  return { code, side: side ?? null, message };
}
