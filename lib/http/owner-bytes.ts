// Finds how much of a body the owner of a response wrote before its first transfer. Node counts that only under
// `strictContentLength`, but a connection counts all its bytes, so what it had written before each response is noted.
import { type Channel, channel } from 'node:diagnostics_channel';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { carriesResponse, informationalBytes, queuedBytes } from '../node/carrier-internals.js';
import { sentHeaders } from '../node/internals.js';

/** Shared by all copies of this package in the process. */
const START = Symbol.for('fdsplice: start');

/** A response, with what its connection had written when its turn came. */
type Started = ServerResponse & { [START]?: number };

function started(this: Started, socket: Socket): void {
  this[START] = socket.bytesWritten;
}

/** Published for each request, before the response has a socket. */
const requests: Channel & { [START]?: true } = channel('http.server.request.start');

// Once: a test runner loads the package anew for each file of tests, and a subscriber keeps everything that it refers to.
if (requests[START] === undefined) {
  requests[START] = true;
  requests.subscribe((message) => {
    const { response, socket } = message as { response: Started; socket: Socket };
    if (carriesResponse(socket)) response.once('socket', started);
    else started.call(response, socket);
  });
}

/**
 * Bytes of the body of a response whose headers are out. `undefined` if that is not known: its request came before this
 * package was loaded, or a program made the response itself. Early hints count as bytes of the body: nothing tells how
 * long they were, and a body that is too long would be taken for the next response.
 */
export function writtenByOwner(response: ServerResponse): number | undefined {
  const { socket } = response;
  const start = (response as Started)[START];
  if (socket !== null && start === undefined) return undefined;
  const all = socket === null ? queuedBytes(response) : socket.bytesWritten - (start ?? 0);
  const headers = sentHeaders(response);
  const body = all - informationalBytes(response) - headers.length;
  // Together with a string, Node encodes the headers in UTF-8.
  return body === Buffer.byteLength(headers) - headers.length ? 0 : Math.max(0, body);
}
