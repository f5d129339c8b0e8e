// The adapters from the build, so that they use the same copy of the package as the specs.
import type * as ofHttpProxy from '../../lib/adapters/http-proxy.js';
import type * as ofProxyChain from '../../lib/adapters/proxy-chain.js';

const built = (name: string) => import(new URL(`../../dist/lib/adapters/${name}.js`, import.meta.url).href);

export const { relayUpgrades } = (await built('http-proxy')) as typeof ofHttpProxy;
export const { relayTunnels } = (await built('proxy-chain')) as typeof ofProxyChain;
