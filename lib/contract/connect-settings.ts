// Turns the arguments of connect() into checked settings. Every check throws a caller's mistake that names the argument.
import { isIP } from 'node:net';
import type { ConnectOptions } from './connection.js';
import { invalidType, invalidValue } from './errors.js';
import { rejectUnknown } from './known-keys.js';
import { milliseconds, signal } from './options.js';
import type { Target } from './server-types.js';
import { targetSpec } from './target.js';

/** What to connect to, and how. */
export interface ConnectSettings {
  /** `host:port`, `[::1]:port` or `unix:/path`. */
  target: string;
  localAddress: string | undefined;
  /** Milliseconds. */
  timeout: number;
  signal: AbortSignal | undefined;
}

export function connectSettings(target: Target, options: ConnectOptions | undefined): ConnectSettings {
  const spec = targetSpec('target', target);
  const known = rejectUnknown(options, ['signal', 'timeout', 'localAddress']);
  return {
    target: spec.text,
    localAddress: localAddress(spec.text, known.localAddress) ?? spec.localAddress,
    timeout: milliseconds('timeout', known.timeout) ?? spec.connectTimeout ?? 10_000,
    signal: signal(known.signal),
  };
}

/** A local address for this target, which it has to fit. */
function localAddress(target: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string') throw invalidType('options.localAddress', 'a string', value);
  const family = isIP(value);
  if (family === 0) throw invalidValue('options.localAddress', 'must be an IP address');
  const { path, host = '' } = partsOf(target);
  if (path !== undefined) throw invalidValue('options.localAddress', 'cannot be used with a path');
  if (isIP(host) !== 0 && isIP(host) !== family) {
    throw invalidValue('options.localAddress', 'must be of the same family as the host');
  }
  return value;
}

/** The parts of the text of a target or an address: a path, or a host and a port. */
export function partsOf(
  text: string,
): { path: string; host?: never } | { path?: never; host: string; port: number } {
  if (text.startsWith('unix:')) return { path: text.slice('unix:'.length) };
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(text.slice(colon + 1)) };
}
