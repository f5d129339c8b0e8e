// Uses the adapters from an ES module in strict TypeScript, and marks the mistakes that must not compile.
import http from 'node:http';
import http2 from 'node:http2';
import { relayUpgrades } from 'fdsplice/http-proxy';
import { relayTunnels } from 'fdsplice/proxy-chain';
import { sendStream } from 'fdsplice/send';
import plugin from 'fdsplice/fastify';

const adapters: ((...args: never[]) => unknown)[] = [relayUpgrades, relayTunnels, sendStream, plugin];

http.createServer((_request, response) => sendStream(response));
http2.createServer((_request, response) => sendStream(response));
const server = { listen: () => undefined, prepareRequestFunction: () => undefined };
/** The functions return the type that they got. */
export const port: number = relayTunnels({ port: 1 }, { rateLimit: ({ username }) => username.length }).port;
export const mistakes = [
  // @ts-expect-error -- a server is not a proxy
  () => relayUpgrades(http.createServer()),
  // @ts-expect-error -- there is no such option
  () => relayTunnels({}, { ratelimit: 1 }),
  // @ts-expect-error -- a server is not its options
  () => relayTunnels(server),
  // @ts-expect-error -- only the stream of the package send has a path
  () => sendStream('/path'),
];
console.log(
  JSON.stringify({
    node: process.version,
    areFunctions: adapters.every((each) => typeof each === 'function'),
  }),
);
