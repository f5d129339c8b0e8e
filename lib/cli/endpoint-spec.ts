// The source and destination of `fdsplice copy` as they are written on the command line.
import {
  type AddressSpec,
  formatAddress,
  parseListenAddress,
  parseTargetAddress,
} from '../contract/address-text.js';

/** A source or destination named on the command line. */
export type EndpointSpec =
  | { kind: 'stdio' }
  | { kind: 'path'; path: string }
  | { kind: 'connect'; address: AddressSpec }
  | { kind: 'listen'; address: AddressSpec };

const LISTEN_PREFIX = 'listen:';
const TCP_PREFIX = 'tcp:';

/** Parses `-`, `tcp:host:port`, `unix:/path`, `listen:host:port` or `listen:unix:/path`; anything else is a path. */
export function parseEndpoint(text: string): EndpointSpec {
  if (text === '') {
    throw new Error('a path is missing');
  }
  if (text === '-') {
    return { kind: 'stdio' };
  }
  if (text.startsWith(LISTEN_PREFIX)) {
    return { kind: 'listen', address: parseListenAddress(text.slice(LISTEN_PREFIX.length)) };
  }
  if (text.startsWith(TCP_PREFIX)) {
    const address = parseTargetAddress(text.slice(TCP_PREFIX.length));
    if (address.kind !== 'tcp') {
      throw new Error('a host and a port go after "tcp:"');
    }
    return { kind: 'connect', address };
  }
  return text.startsWith('unix:')
    ? { kind: 'connect', address: parseTargetAddress(text) }
    : { kind: 'path', path: text };
}

/** The name of an endpoint in messages. */
export function formatEndpoint(spec: EndpointSpec, side: 'source' | 'destination'): string {
  if (spec.kind === 'stdio') {
    return side === 'source' ? 'standard input' : 'standard output';
  }
  return spec.kind === 'path' ? spec.path : formatAddress(spec.address);
}
