// Uses the package from strict TypeScript, and marks the mistakes that must not compile.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import {
  capabilities,
  copy,
  RateLimiter,
  relay,
  sendFile,
  stats,
  TransferError,
  type Capabilities,
  type CommonOptions,
  type CopyOptions,
  type RelayEnd,
  type RelayOptions,
  type SendFileOptions,
  type Stats,
  type Traffic,
  type TrafficResult,
  type Transfer,
} from 'fdsplice';

const limiter = new RateLimiter(1e9, { burst: 1 << 20 });
const common: CommonOptions = { signal: new AbortController().signal, rateLimit: limiter, reject: false };
const options: RelayOptions = { ...common, rateLimit: { tx: limiter }, headFromA: Buffer.from('head,') };
const copyOptions: CopyOptions = { length: 4 };
const fileOptions: SendFileOptions = { start: 0, end: 9 };
export const verbs: [typeof copy, typeof sendFile] = [copy, sendFile];
export const all: object = { copyOptions, fileOptions };
/** The types of `require` are those of `import`. */
export const required: import('fdsplice', { with: { 'resolution-mode': 'require' } }).RateLimiter = limiter;
// @ts-expect-error -- there is no such option
export const wrong: RelayOptions = { ratelimit: 1 };
// @ts-expect-error -- a relay does not take a file
export const never: () => Transfer = () => relay('a file', 1);

const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

async function pair(): Promise<[net.Socket, net.Socket]> {
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const far = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  return [(await accepted)[0], far];
}

const [a, client] = await pair();
const [b, origin] = await pair();
const ends: [RelayEnd, RelayEnd] = [a, b];
const transfer: Transfer = relay(...ends, options);
const live: Traffic = transfer.traffic;
client.end('ping');
origin.end('answer');
const seen = Buffer.concat((await origin.toArray()) as Buffer[]).toString();
client.resume();
const { tx, rx, total, engine, error }: TrafficResult = await transfer;
server.close();

const failure: TransferError | null = error;
const found: Capabilities = capabilities();
const counts: Stats = stats();
const isExact =
  tx === 9 && rx === 6 && total === 15 && failure === null && live.total <= total && counts.active === 0;
console.log(
  JSON.stringify({
    node: process.version,
    capabilities: found,
    isExact,
    isIntact: seen === 'head,ping',
    engine,
  }),
);
