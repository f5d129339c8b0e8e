// Parses and formats the addresses of the command line.
import { isIPv6 } from 'node:net';

export interface TcpAddress {
  kind: 'tcp';
  /** Absent for every interface, in an address to listen on only. */
  host: string | undefined;
  port: number;
}

export interface UnixAddress {
  kind: 'unix';
  path: string;
}

export type Address = TcpAddress | UnixAddress;

const UNIX_PREFIX = 'unix:';
// sun_path in sockaddr_un has 108 bytes including the terminating NUL (unix(7)).
const UNIX_PATH_MAX = 107;

/** Parses an address to listen on: `host:port`, `[::1]:port`, `:port` (every interface) or `unix:/path`. */
export function parseListenAddress(text: string): Address {
  return parseAddress(text);
}

/** Parses an address to connect to: the same forms, but with a host, and a port other than 0. */
export function parseTargetAddress(text: string): Address {
  const address = parseAddress(text);
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

/** Formats an address as it is written on the command line. */
export function formatAddress(address: Address): string {
  return address.kind === 'unix'
    ? `${UNIX_PREFIX}${address.path}`
    : formatHostPort(address.host ?? '', address.port);
}

/** Formats host and port: an IPv6 address in brackets, an IPv4-mapped one as the IPv4 address. */
export function formatHostPort(host: string, port: number): string {
  const plain = host.replace(/^::ffff:(?=\d+\.)/i, '');
  return plain.includes(':') ? `[${plain}]:${port}` : `${plain}:${port}`;
}

function parseAddress(text: string): Address {
  return text.startsWith(UNIX_PREFIX) ? parseUnix(text.slice(UNIX_PREFIX.length)) : parseTcp(text);
}

function parseUnix(path: string): UnixAddress {
  if (path === '') {
    throw new Error('a path is missing after "unix:"');
  }
  if (Buffer.byteLength(path) > UNIX_PATH_MAX) {
    throw new Error(`a Unix socket path has at most ${UNIX_PATH_MAX} bytes`);
  }
  return { kind: 'unix', path };
}

function parseTcp(text: string): TcpAddress {
  const colon = text.lastIndexOf(':');
  if (colon === -1 || text.endsWith(']')) {
    throw new Error('a port is missing: write host:port, [::1]:port, :port or unix:/path');
  }
  return { kind: 'tcp', host: parseHost(text.slice(0, colon)), port: parsePort(text.slice(colon + 1)) };
}

function parseHost(text: string): string | undefined {
  if (text === '') {
    return undefined;
  }
  if (text.startsWith('[') && text.endsWith(']')) {
    const host = text.slice(1, -1);
    if (!isIPv6(host)) {
      throw new Error(`"${host}" is not an IPv6 address`);
    }
    return host;
  }
  if (text.includes(':') && isIPv6(text)) {
    throw new Error('an IPv6 address goes in brackets: [::1]:port');
  }
  if (!/^[\p{L}\p{N}._-]+$/u.test(text)) {
    throw new Error(`"${text}" is not a host name or an IP address`);
  }
  return text;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) {
    throw new Error(`"${text}" is not a port (0 to 65535)`);
  }
  return port;
}
