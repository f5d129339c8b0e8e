export { capabilities, stats } from './lib/process.js';
export { copy } from './lib/copy.js';
export { TransferError } from './lib/errors.js';
export { RateLimiter } from './lib/rate-limiter.js';
export { relay } from './lib/relay.js';
export { sendFile } from './lib/send-file.js';
export type {
  Capabilities,
  CommonOptions,
  CopyOptions,
  Destination,
  RelayEnd,
  RelayOptions,
  SendFileOptions,
  Side,
  Source,
  Stats,
  Traffic,
  TrafficResult,
  Transfer,
} from './lib/types.js';
