import type { MoveSpec } from '../binding.js';
import { checked } from './known-keys.js';
import { invalidType, outOfRange } from './errors.js';
import { type Limit, limitOf, RateLimiter } from './rate-limiter.js';
import type { CommonOptions, CopyOptions, RelayOptions, SendFileOptions, Traffic } from './types.js';

const COMMON = [
  'signal',
  'rateLimit',
  'idleTimeout',
  'onProgress',
  'progressInterval',
  'zeroCopy',
  'pipeSize',
  'reject',
] as const;
const COPY = [...COMMON, 'start', 'length', 'position', 'endDestination', 'head'] as const;
const SEND_FILE = [...COMMON, 'start', 'end', 'endDestination'] as const;
const RELAY = [...COMMON, 'headFromA', 'headFromB', 'halfCloseTimeout'] as const;

/** The common options, checked, with their defaults. */
export interface Settings {
  signal: AbortSignal | undefined;
  onProgress: ((traffic: Traffic) => void) | undefined;
  progressInterval: number;
  reject: boolean;
  /** How bytes are moved, as the core is told. */
  how: MoveSpec;
}

export interface CopySettings extends Settings {
  limit: Limit | undefined;
  start: number | undefined;
  position: number | undefined;
  length: number | undefined;
  endDestination: boolean;
  head: Uint8Array | undefined;
}

export interface SendFileSettings extends Settings {
  limit: Limit | undefined;
  start: number | undefined;
  end: number | undefined;
  /** Absent where the destination decides. */
  endDestination: boolean | undefined;
}

export interface RelaySettings extends Settings {
  /** For both directions together, for what comes from a, for what comes from b. */
  limits: [Limit | undefined, Limit | undefined, Limit | undefined];
  headFromA: Uint8Array | undefined;
  headFromB: Uint8Array | undefined;
}

export function copySettings(options: CopyOptions | undefined): CopySettings {
  const known = checked(options, COPY);
  return {
    ...common(known),
    limit: limitOf('options.rateLimit', known.rateLimit),
    start: whole('start', known.start),
    length: whole('length', known.length),
    position: whole('position', known.position),
    endDestination: flag('endDestination', known.endDestination, false),
    head: bytes('head', known.head),
  };
}

export function sendFileSettings(options: SendFileOptions | undefined): SendFileSettings {
  const known = checked(options, SEND_FILE);
  // No end is Infinity to fs.createReadStream, too.
  const last = known.end === Infinity ? undefined : known.end;
  const [start, end] = [whole('start', known.start), whole('end', last)];
  if (start !== undefined && end !== undefined && end < start) {
    throw outOfRange('options.end', `at least options.start, which is ${start}`, end);
  }
  // Objects that are spread have a layout of their own each in the engine.
  return Object.assign(common(known), {
    limit: limitOf('options.rateLimit', known.rateLimit),
    start,
    end,
    endDestination: flag('endDestination', known.endDestination, undefined),
  });
}

let plain: RelaySettings | undefined;

export function relaySettings(options: RelayOptions | undefined): RelaySettings {
  if (options === undefined) return (plain ??= relaySettings({}));
  const known = checked(options, RELAY);
  const { rateLimit } = known;
  const each = typeof rateLimit === 'object' && rateLimit !== null && !(rateLimit instanceof RateLimiter);
  const { tx, rx } = each ? checked(rateLimit, ['tx', 'rx'], 'options.rateLimit') : {};
  const settings = common(known);
  const halfCloseTimeout = milliseconds('halfCloseTimeout', known.halfCloseTimeout);
  if (halfCloseTimeout !== undefined) settings.how.halfCloseTimeout = halfCloseTimeout;
  return Object.assign(settings, {
    limits: [
      each ? undefined : limitOf('options.rateLimit', rateLimit),
      limitOf('options.rateLimit.tx', tx),
      limitOf('options.rateLimit.rx', rx),
    ] as RelaySettings['limits'],
    headFromA: bytes('headFromA', known.headFromA),
    headFromB: bytes('headFromB', known.headFromB),
  });
}

function common(options: Omit<CommonOptions, 'rateLimit'>): Settings {
  const pipeSize = whole('pipeSize', options.pipeSize, 1, 2 ** 31 - 1);
  const idleTimeout = milliseconds('idleTimeout', options.idleTimeout);
  return {
    signal: signal(options.signal),
    onProgress: callback('onProgress', options.onProgress),
    progressInterval: milliseconds('progressInterval', options.progressInterval) ?? 1000,
    reject: flag('reject', options.reject, true),
    how: {
      zeroCopy: flag('zeroCopy', options.zeroCopy, true),
      ...(pipeSize === undefined ? {} : { pipeSize }),
      ...(idleTimeout === undefined ? {} : { idleTimeout }),
    },
  };
}

function signal(value: AbortSignal | undefined): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw invalidType('options.signal', 'an AbortSignal', value);
}

function flag<D extends boolean | undefined>(
  name: string,
  value: boolean | undefined,
  otherwise: D,
): boolean | D {
  if (value === undefined) return otherwise;
  if (typeof value === 'boolean') return value;
  throw invalidType(`options.${name}`, 'a boolean', value);
}

function whole(
  name: string,
  value: number | undefined,
  least = 0,
  most = Number.MAX_SAFE_INTEGER,
): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw invalidType(`options.${name}`, 'a number', value);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw outOfRange(`options.${name}`, `a whole number from ${least} to ${most}`, value);
}

/** What a timer of Node's can wait for. */
function milliseconds(name: string, value: number | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw invalidType(`options.${name}`, 'a number', value);
  if (value > 0 && value <= 2 ** 31 - 1) return value;
  throw outOfRange(`options.${name}`, `a number of milliseconds above 0 and at most ${2 ** 31 - 1}`, value);
}

function callback<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw invalidType(`options.${name}`, 'a function', value);
}

function bytes(name: string, value: Uint8Array | undefined): Uint8Array | undefined {
  if (value === undefined) return undefined;
  if (value instanceof Uint8Array) return value;
  throw invalidType(`options.${name}`, 'a Buffer or Uint8Array', value);
}
