/**
 * Moves bytes between descriptors inside the kernel, and reports how many arrived.
 * @module fdsplice
 */
export { capabilities } from './lib/core/capabilities.js';
export { stats } from './lib/core/stats.js';
export { connect } from './lib/verbs/connect.js';
export { copy } from './lib/verbs/copy.js';
export { TransferError } from './lib/contract/errors.js';
export { RateLimiter } from './lib/contract/rate-limiter.js';
export { relay } from './lib/verbs/relay.js';
export { relayOnPipe } from './lib/verbs/relay-on-pipe.js';
export { sendFile } from './lib/verbs/send-file.js';
export type { Connection, ConnectOptions } from './lib/contract/connection.js';
export type { Address, Target, TargetOptions } from './lib/contract/server-types.js';
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
} from './lib/contract/types.js';
