// Checks targets and routes, and brings them into the one form that the core takes.
import { isIP } from 'node:net';
import { checkHost, checkPath, formatAddress, parseTargetAddress } from './address-text.js';
import { invalidType, invalidValue } from './errors.js';
import { rejectUnknown } from './known-keys.js';
import { milliseconds } from './options.js';
import type { Route, Target, TargetOptions } from './server-types.js';

/** A checked target. */
export interface TargetSpec {
  /** `host:port`, `[::1]:port` or `unix:/path`. */
  text: string;
  localAddress: string | undefined;
  connectTimeout: number | undefined;
}

type TargetObject = Exclude<Target, string>;
type AnyTarget = Partial<{ host: string; port: number; path: string }> & TargetOptions;

const KEYS = ['host', 'port', 'path', 'localAddress', 'connectTimeout'] as const;

/** The targets of a route, at least one. `name` is what an error calls the route. */
export function routeSpec(name: string, route: Route): TargetSpec[] {
  if (!Array.isArray(route)) return [targetSpec(name, route)];
  if (route.length === 0) throw invalidValue(name, 'must hold at least one target');
  // Array.from: a hole of a sparse array is an entry that is no target.
  return Array.from(route, (target, index) => targetSpec(`${name}[${index}]`, target));
}

export function targetSpec(name: string, target: Target): TargetSpec {
  if (typeof target === 'string') {
    const address = explain(name, () => parseTargetAddress(target));
    return { text: formatAddress(address), localAddress: undefined, connectTimeout: undefined };
  }
  if (typeof target !== 'object' || target === null || Array.isArray(target)) {
    throw invalidType(name, 'a target: "host:port", "unix:/path" or an object', target);
  }
  return fromObject(name, target);
}

function fromObject(name: string, target: TargetObject): TargetSpec {
  const known = rejectUnknown<AnyTarget>(target, KEYS, name);
  const { host, port, path, localAddress } = known;
  const connectTimeout = milliseconds('connectTimeout', known.connectTimeout, name);
  if (localAddress !== undefined && typeof localAddress !== 'string') {
    throw invalidType(`${name}.localAddress`, 'a string', localAddress);
  }
  if (path !== undefined) {
    if (host !== undefined || port !== undefined) {
      throw invalidValue(name, 'must have either a path, or a host and a port');
    }
    if (localAddress !== undefined) {
      throw invalidValue(`${name}.localAddress`, 'cannot be used with a path');
    }
    if (typeof path !== 'string') throw invalidType(`${name}.path`, 'a string', path);
    const unix = { kind: 'unix', path: explain(`${name}.path`, () => checkPath(path)) } as const;
    return { text: formatAddress(unix), localAddress, connectTimeout };
  }
  if (localAddress !== undefined && isIP(localAddress) === 0) {
    throw invalidValue(`${name}.localAddress`, 'must be an IP address');
  }
  if (typeof host !== 'string') throw invalidType(`${name}.host`, 'a string', host);
  if (typeof port !== 'number') throw invalidType(`${name}.port`, 'a number', port);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw invalidValue(`${name}.port`, `must be a port from 1 to 65535. Received ${port}`);
  }
  const address = explain(`${name}.host`, () => checkHost(host));
  const families = [isIP(address), isIP(localAddress ?? '')];
  if (!families.includes(0) && families[0] !== families[1]) {
    throw invalidValue(`${name}.localAddress`, 'must be of the same family as the host');
  }
  return { text: formatAddress({ kind: 'tcp', host: address, port }), localAddress, connectTimeout };
}

/** Turns the reason of the grammar into a caller's mistake that names the argument. */
function explain<T>(name: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw invalidValue(name, `cannot be used: ${(error as Error).message}`);
  }
}
