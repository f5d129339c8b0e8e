// What the method `stream` of the package `send` does. The method itself is out of reach if `sendStream` has replaced it on the
// prototype.
import type { EventEmitter } from 'node:events';
import { createReadStream } from 'node:fs';
import type { ServerResponse } from 'node:http';

/** The part of a `SendStream` of the package `send` that the adapter uses. */
export interface SendStream extends Pick<EventEmitter, 'emit'> {
  res: ServerResponse;
  onStatError(error: Error): void;
}

export function streamFile(own: SendStream, path: string, options?: object): void {
  const source = createReadStream(path, options);
  const cleanUp = () => void source.destroy();
  own.emit('stream', source);
  source.pipe(own.res);
  if (own.res.destroyed) cleanUp();
  else own.res.once('close', cleanUp);
  source.on('error', (error) => {
    cleanUp();
    own.onStatError(error);
  });
  source.on('end', () => own.emit('end'));
}
