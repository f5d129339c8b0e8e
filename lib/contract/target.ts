// Checks targets and routes, and brings them into the one form that the core takes.
import { isIP } from 'node:net';
import { invalidType, invalidValue } from './errors.js';
import { rejectUnknown } from './known-keys.js';
import { milliseconds } from './options.js';
import type { Route, Target, TargetOptions } from './server-types.js';

// sun_path in sockaddr_un has 108 bytes including the terminating NUL (unix(7)).
const MAX_PATH = 107;
// RFC 1035, with the final dot.
const MAX_HOST = 254;

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
    return { text: parse(name, target), localAddress: undefined, connectTimeout: undefined };
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
    return { text: unix(`${name}.path`, path), localAddress, connectTimeout };
  }
  if (localAddress !== undefined && isIP(localAddress) === 0) {
    throw invalidValue(`${name}.localAddress`, 'must be an IP address');
  }
  if (typeof host !== 'string') throw invalidType(`${name}.host`, 'a string', host);
  if (typeof port !== 'number') throw invalidType(`${name}.port`, 'a number', port);
  // Brackets are optional here, because the port is apart.
  const bare = /^\[(.*)\]$/.exec(host)?.[1];
  const address = bare ?? host;
  const families = [isIP(address), isIP(localAddress ?? '')];
  if (!families.includes(0) && families[0] !== families[1]) {
    throw invalidValue(`${name}.localAddress`, 'must be of the same family as the host');
  }
  return {
    text: hostPort(`${name}.host`, `${name}.port`, address, port, bare !== undefined),
    localAddress,
    connectTimeout,
  };
}

function parse(name: string, text: string): string {
  if (text.startsWith('unix:')) return unix(name, text.slice('unix:'.length));
  const colon = text.lastIndexOf(':');
  const digits = text.slice(colon + 1);
  if (colon === -1 || !/^\d+$/.test(digits)) {
    throw invalidValue(name, `must be "host:port", "[::1]:port" or "unix:/path". Received '${text}'`);
  }
  const host = text.slice(0, colon);
  const bare = /^\[(.*)\]$/.exec(host)?.[1];
  if (bare === undefined && host.includes(':')) {
    throw invalidValue(name, `must have an IPv6 address in brackets. Received '${text}'`);
  }
  return hostPort(name, name, bare ?? host, Number(digits), bare !== undefined);
}

function hostPort(
  hostName: string,
  portName: string,
  host: string,
  port: number,
  bracketed: boolean,
): string {
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw invalidValue(portName, `must have a port from 1 to 65535. Received ${port}`);
  }
  const family = isIP(host);
  const isName = family === 0;
  if (isName && (bracketed || host === '' || /[\0:]/.test(host) || Buffer.byteLength(host) > MAX_HOST)) {
    throw invalidValue(hostName, `must have a host name or an IP address. Received '${host}'`);
  }
  return family === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

function unix(name: string, path: string): string {
  const length = Buffer.byteLength(path);
  if (length === 0 || length > MAX_PATH || path.includes('\0')) {
    throw invalidValue(
      name,
      `must have a path of 1 to ${MAX_PATH} bytes without a zero byte. It has ${length}`,
    );
  }
  return `unix:${path}`;
}
