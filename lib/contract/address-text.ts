// The grammar of addresses in text, for the command line and for the targets of servers. A text that is no address throws an
// Error whose message is the reason.
import { isIP, isIPv6 } from 'node:net';

export interface TcpAddressSpec {
  kind: 'tcp';
  /** Absent for every interface, in an address to listen on only. */
  host: string | undefined;
  port: number;
}

export interface UnixAddressSpec {
  kind: 'unix';
  path: string;
}

/** An address as it was written. */
export type AddressSpec = TcpAddressSpec | UnixAddressSpec;

const UNIX_PREFIX = 'unix:';
// sun_path in sockaddr_un has 108 bytes including the terminating NUL (unix(7)).
const UNIX_PATH_MAX = 107;
// RFC 1035, with the final dot.
const HOST_NAME_MAX = 254;

/** Parses an address to listen on: `host:port`, `[::1]:port`, `:port` (every interface) or `unix:/path`. */
export function parseListenAddress(text: string): AddressSpec {
  if (text.startsWith(UNIX_PREFIX)) {
    return { kind: 'unix', path: checkPath(text.slice(UNIX_PREFIX.length)) };
  }
  const colon = text.lastIndexOf(':');
  if (colon === -1 || text.endsWith(']')) {
    throw new Error('a port is missing: write host:port, [::1]:port, :port or unix:/path');
  }
  return { kind: 'tcp', host: parseHost(text.slice(0, colon)), port: parsePort(text.slice(colon + 1)) };
}

/** Parses an address to connect to: the same forms, but with a host, and a port other than 0. */
export function parseTargetAddress(text: string): AddressSpec {
  const address = parseListenAddress(text);
  if (address.kind === 'tcp') {
    if (address.host === undefined) {
      throw new Error('a target needs a host before the ":"');
    }
    if (address.port === 0) {
      throw new Error('port 0 can be listened on, but not connected to');
    }
  }
  return address;
}

/** Formats an address as it is written in text. */
export function formatAddress(address: AddressSpec): string {
  return address.kind === 'unix'
    ? `${UNIX_PREFIX}${address.path}`
    : formatHostPort(address.host ?? '', address.port);
}

/** Formats host and port, an IPv6 address in brackets. */
export function formatHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Returns a host name, or an IP address without its brackets. */
export function checkHost(text: string): string {
  if (text.startsWith('[') && text.endsWith(']')) {
    const host = text.slice(1, -1);
    if (!isIPv6(host)) {
      throw new Error(`"${host}" is not an IPv6 address`);
    }
    return host;
  }
  if (isIP(text) === 0 && !/^[\p{L}\p{M}\p{N}._-]+$/u.test(text)) {
    throw new Error(`"${text}" is not a host name or an IP address`);
  }
  if (Buffer.byteLength(text) > HOST_NAME_MAX) {
    throw new Error(`a host name has at most ${HOST_NAME_MAX} bytes`);
  }
  return text;
}

/** Returns the path of a Unix socket. */
export function checkPath(path: string): string {
  if (path === '') {
    throw new Error('a path is missing');
  }
  if (Buffer.byteLength(path) > UNIX_PATH_MAX) {
    throw new Error(`a Unix socket path has at most ${UNIX_PATH_MAX} bytes`);
  }
  if (path.includes('\0')) {
    throw new Error('a Unix socket path has no zero byte');
  }
  return path;
}

function parseHost(text: string): string | undefined {
  if (text === '') {
    return undefined;
  }
  if (isIPv6(text)) {
    throw new Error('an IPv6 address goes in brackets: [::1]:port');
  }
  return checkHost(text);
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) {
    throw new Error(`"${text}" is not a port (0 to 65535)`);
  }
  return port;
}
