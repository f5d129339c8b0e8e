// Chooses the engine of a transfer, once per call. Native: the core can use the descriptors of both ends. Stream:
// everything else, and every transfer without a core. For the body of an HTTP response the choice depends on its headers;
// `takesNativeBody` in lib/http/response.ts makes it for `copy` here and for `sendFile` when the file is open.
import {
  areNative,
  type Endpoint,
  isForCore,
  type NativeEndpoint,
  type PathEndpoint,
} from '../endpoint/endpoint.js';
import type { CopySettings } from '../contract/options.js';
import { binding } from '../core/core.js';
import { isClosed } from '../http/connection.js';
import { isResponse, ResponseEnd, takesNativeBody } from '../http/response.js';
import type { CopyDestination, CopySource } from '../native/copy.js';
import { PathEnd } from '../native/path-end.js';
import { SocketEnd } from '../native/socket-end.js';

type Ends = readonly [Endpoint, Endpoint];

/** Both ends of a copy that are paths which the core opens; `undefined` for all other copies. */
export function nativePaths([source, destination]: Ends): readonly [PathEndpoint, PathEndpoint] | undefined {
  if (source.kind !== 'path' || destination.kind !== 'path' || !source.isForCore) return undefined;
  return [source, destination];
}

/**
 * The ends of a copy for the native engine; `undefined` for the stream engine. Sends the headers of a plain response,
 * unless the copy is already aborted.
 */
export function nativeCopyEnds(
  ends: Ends,
  settings: Pick<CopySettings, 'signal' | 'position'>,
  refuse: (mistake: Error) => void,
): [CopySource, CopyDestination] | undefined {
  if (areNative(ends)) return [new SocketEnd(ends[0]), new SocketEnd(ends[1])];
  const [source, destination] = ends;
  const isAborted = settings.signal?.aborted === true;
  if (source.kind === 'path' && source.isForCore && isForCore(destination)) {
    return [new PathEnd(source, refuse), new SocketEnd(destination)];
  }
  if (destination.kind === 'path' && destination.isForCore && isForCore(source)) {
    const opened = source.kind === 'descriptor' ? source.end : undefined;
    const keepContents = settings.position !== undefined;
    return [new SocketEnd(source), new PathEnd(destination, refuse, { keepContents, source: opened })];
  }
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
  // Without a core, an unavailable connection is the only end that looks as if it were for the core.
  if (binding() === undefined || (source !== undefined && !isForCore(source))) return undefined;
  return isForCore(target) ? target : undefined;
}
