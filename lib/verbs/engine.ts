// Chooses the engine of a transfer, once per call. Native: the core can use the descriptors of both ends. Stream:
// everything else, and every transfer without a core. For the body of an HTTP response the choice depends on its headers;
// `takesNativeBody` in lib/http/response.ts makes it for `copy` here and for `sendFile` when the file is open.
import { areNative, type Endpoint, isForCore, type NativeEndpoint } from '../endpoint/endpoint.js';
import { isClosed } from '../http/connection.js';
import { isResponse, ResponseEnd, takesNativeBody } from '../http/response.js';
import type { CopyDestination } from '../native/copy.js';
import { SocketEnd } from '../native/socket-end.js';

type Ends = readonly [Endpoint, Endpoint];

/** The ends of a relay for the native engine; `undefined` for the stream engine. */
export function nativeRelayEnds(ends: Ends): readonly [NativeEndpoint, NativeEndpoint] | undefined {
  return areNative(ends) ? ends : undefined;
}

/**
 * The ends of a copy for the native engine; `undefined` for the stream engine. Sends the headers of a plain response,
 * unless the copy is already aborted.
 */
export function nativeCopyEnds(ends: Ends, isAborted: boolean): [SocketEnd, CopyDestination] | undefined {
  if (areNative(ends)) return [new SocketEnd(ends[0]), new SocketEnd(ends[1])];
  const [source, destination] = ends;
  if (destination.kind !== 'stream' || !isForCore(source)) return undefined;
  const { stream } = destination;
  if (!isResponse(stream) || isClosed(stream) || !takesNativeBody(stream, isAborted)) return undefined;
  return [new SocketEnd(source), new ResponseEnd(stream)];
}

/**
 * The destination of a sendFile for the native engine; `undefined` for the stream engine. Without a `source` the file is
 * opened for the transfer, by the core if there is one.
 */
export function nativeSendTarget(source: Endpoint | undefined, target: Endpoint): NativeEndpoint | undefined {
  if (source !== undefined && !isForCore(source)) return undefined;
  return isForCore(target) ? target : undefined;
}
