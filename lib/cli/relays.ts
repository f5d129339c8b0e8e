// What `fdsplice relay` needs of the code that accepts, connects and relays.
import type { AddressSpec } from '../contract/address-text.js';

export interface RelayLimits {
  /** Connections at a time. */
  maxConnections: number;
  /** Milliseconds. */
  connectTimeout: number;
  /** Bytes per second of one connection, both directions together. */
  rateLimit?: number;
  /** Milliseconds. */
  idleTimeout?: number;
  /** Milliseconds. */
  halfCloseTimeout?: number;
}

export interface RelaysSettings extends RelayLimits {
  listen: AddressSpec;
  /** They take turns. */
  targets: AddressSpec[];
}

/** Accepts connections and relays each to a target. Those that have ended go into a ledger. */
export interface Relays {
  /** Resolves with the bound address. */
  listen(): Promise<string>;
  /** Connections that have not ended. */
  readonly active: number;
  /** All connections that were not refused, including the active ones. */
  readonly connections: number;
  /** Stops accepting. Resolves when every connection has ended and is in the ledger. */
  close(): Promise<void>;
  /** Ends every connection, after `close()`. */
  abort(reason: Error): void;
}
