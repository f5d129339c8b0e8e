// Connections that the core makes.
import { connectFailure } from '../contract/connect-errors.js';
import type { ConnectSettings } from '../contract/connect-settings.js';
import { type Failure, invalidValue } from '../contract/errors.js';
import { startConnect } from '../core/connector.js';
import { OpenConnection } from '../endpoint/connection.js';

/** Connects in the core. Calls `settled` once, unless the returned function gives the connect up before. */
export function connectNatively(
  { target, localAddress, timeout }: ConnectSettings,
  settled: (result: OpenConnection | Failure) => void,
): () => void {
  try {
    return startConnect(target, localAddress, timeout, (outcome) => {
      if (!('end' in outcome)) {
        settled(connectFailure(target, outcome));
        return;
      }
      const { end, local, remote, connectMs } = outcome;
      settled(new OpenConnection(target, end, local, remote, connectMs));
    });
  } catch (error) {
    // Node takes names of interfaces for zones, the core takes numbers.
    throw invalidValue('target', `cannot be used: ${(error as Error).message}`);
  }
}
