import { type Address, formatAddress, parseListenAddress, parseTargetAddress } from './address.js';

/** What is named on the command line as the source or the destination of a copy. */
export type CopyEnd =
  | { kind: 'stdio' }
  | { kind: 'path'; path: string }
  | { kind: 'connect'; address: Address }
  | { kind: 'listen'; address: Address };

const LISTEN_PREFIX = 'listen:';
const TCP_PREFIX = 'tcp:';

/** Parses `-`, `tcp:host:port`, `unix:/path`, `listen:host:port`, `listen:unix:/path`, or else a path. */
export function parseCopyEnd(text: string): CopyEnd {
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

/** Names an end in a message. */
export function formatCopyEnd(end: CopyEnd, side: 'source' | 'destination'): string {
  if (end.kind === 'stdio') {
    return side === 'source' ? 'standard input' : 'standard output';
  }
  return end.kind === 'path' ? end.path : formatAddress(end.address);
}
