/**
 * `fdsplice/fastify`: a plugin for Fastify. Streams of files in replies, also those of `@fastify/static`, are sent with
 * `sendFile`.
 * @module fdsplice/fastify
 */
import type { ServerResponse } from 'node:http';
import { sendStream } from './send.js';

/** The part of a Fastify instance that the plugin uses. */
export interface HookedInstance {
  addHook(
    name: 'onRequest',
    hook: (request: unknown, reply: { raw: object }, done: () => void) => void,
  ): unknown;
}

/**
 * The plugin: `app.register(sendStreams)`. It serves all routes of the instance, also those of plugins that are registered
 * after it. It has no options.
 */
export function sendStreams(app: HookedInstance, _options: unknown, done: () => void): void {
  app.addHook('onRequest', (_request, reply, next) => {
    sendStream(reply.raw as ServerResponse);
    next();
  });
  done();
}

// Fastify then adds the hook to the instance that registers the plugin, rather than to a new one for the plugin alone.
Object.assign(sendStreams, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'fdsplice',
});

export default sendStreams;
