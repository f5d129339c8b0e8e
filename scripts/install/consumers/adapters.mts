// Uses the adapters from an ES module in strict TypeScript.
import { relayUpgrades } from 'fdsplice/http-proxy';
import { relayTunnels } from 'fdsplice/proxy-chain';
import { sendStream } from 'fdsplice/send';
import plugin from 'fdsplice/fastify';

const adapters: ((...args: never[]) => unknown)[] = [relayUpgrades, relayTunnels, sendStream, plugin];
console.log(
  JSON.stringify({
    node: process.version,
    areFunctions: adapters.every((each) => typeof each === 'function'),
  }),
);
