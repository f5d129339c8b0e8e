// A plugin for Fastify: streams of files in replies, also those of @fastify/static, are sent with sendFile.
import type { ServerResponse } from 'node:http';
import { sendStream } from './send.js';

type Reply = { raw: object };
type Hook = (request: unknown, reply: Reply, done: () => void) => void;
type Instance = { addHook(name: 'onRequest', hook: Hook): unknown };

/** `app.register(sendStreams)`: for all routes of the instance, those in its plugins included. */
export function sendStreams(app: Instance, _options: unknown, done: () => void): void {
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
