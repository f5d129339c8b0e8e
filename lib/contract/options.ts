// Turns the options of a call into checked settings with their defaults. Every check throws a caller's mistake that
// names the option.
import { types } from 'node:util';
import type { MoveSpec } from '../binding.js';
import { isAbortSignal } from './realms.js';
import { invalidType, outOfRange } from './errors.js';
import { rejectUnknown } from './known-keys.js';
import { isLimiter, type Limit, limitOf, type RateLimiter } from './rate-limiter.js';
import type { Traffic } from './traffic.js';
import type { CommonOptions, CopyOptions, RelayOptions, SendFileOptions } from './types.js';

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

/** The common options with their defaults. */
export interface Settings {
  signal: AbortSignal | undefined;
  onProgress: ((traffic: Traffic) => void) | undefined;
  progressInterval: number;
  reject: boolean;
  /** How bytes are moved, in the core's own form. */
  moveOptions: MoveSpec;
}

/** The options of a copy. */
export interface CopySettings extends Settings {
  limit: Limit | undefined;
  start: number | undefined;
  position: number | undefined;
  length: number | undefined;
  endDestination: boolean;
  head: Uint8Array | undefined;
}

/** The options of a sendFile. */
export interface SendFileSettings extends Settings {
  limit: Limit | undefined;
  start: number | undefined;
  /** Last byte to send, inclusive. */
  end: number | undefined;
  /** Absent: the default of the destination applies. */
  endDestination: boolean | undefined;
}

/** The options of a relay. */
export interface RelaySettings extends Settings {
  /** One limit for both directions together, one from a to b, one from b to a. */
  limits: [Limit | undefined, Limit | undefined, Limit | undefined];
  headFromA: Uint8Array | undefined;
  headFromB: Uint8Array | undefined;
  /** Whether a socket that fails emits its 'error', as it does without a relay. Not an option: a verb decides. */
  emitsErrors?: boolean;
}

export function copySettings(options: CopyOptions | undefined): CopySettings {
  const known = rejectUnknown(options, COPY);
  return {
    ...common(known),
    limit: limitOf('options.rateLimit', known.rateLimit),
    start: integer('start', known.start),
    length: integer('length', known.length),
    position: integer('position', known.position),
    endDestination: flag('endDestination', known.endDestination, false),
    head: bytes('head', known.head),
  };
}

export function sendFileSettings(options: SendFileOptions | undefined): SendFileSettings {
  const known = rejectUnknown(options, SEND_FILE);
  // `end: Infinity` means no end, as in fs.createReadStream.
  const last = known.end === Infinity ? undefined : known.end;
  const [start, end] = [integer('start', known.start), integer('end', last)];
  if (start !== undefined && end !== undefined && end < start) {
    throw outOfRange('options.end', `at least options.start, which is ${start}`, end);
  }
  // Object.assign: V8 gives every spread object a hidden class of its own, which slows down each later access.
  return Object.assign(common(known), {
    limit: limitOf('options.rateLimit', known.rateLimit),
    start,
    end,
    endDestination: flag('endDestination', known.endDestination, undefined),
  });
}

/** The settings of every relay without options: built once, because relays are many and short. */
let defaults: RelaySettings | undefined;

export function relaySettings(options: RelayOptions | undefined): RelaySettings {
  if (options === undefined || hasNone(options)) return (defaults ??= settingsOf({}));
  return settingsOf(options);
}

/** Whether this is an object literal without options. */
function hasNone(options: unknown): boolean {
  if (typeof options !== 'object' || options === null) return false;
  return (
    Object.getPrototypeOf(options) === Object.prototype && Object.getOwnPropertyNames(options).length === 0
  );
}

function settingsOf(options: RelayOptions): RelaySettings {
  const known = rejectUnknown(options, RELAY);
  const [both, tx, rx] = splitRates(known.rateLimit);
  const settings = common(known);
  const halfCloseTimeout = milliseconds('halfCloseTimeout', known.halfCloseTimeout);
  if (halfCloseTimeout !== undefined) settings.moveOptions.halfCloseTimeout = halfCloseTimeout;
  return Object.assign(settings, {
    limits: [
      limitOf('options.rateLimit', both),
      limitOf('options.rateLimit.tx', tx),
      limitOf('options.rateLimit.rx', rx),
    ] as RelaySettings['limits'],
    headFromA: bytes('headFromA', known.headFromA),
    headFromB: bytes('headFromB', known.headFromB),
  });
}

type Rate = number | RateLimiter | undefined;

/** The rates of an option: of both directions together, or of each. They are not checked yet. */
export function splitRates(option: RelayOptions['rateLimit']): [both: Rate, tx: Rate, rx: Rate] {
  if (!isPlainObject(option) || isLimiter(option)) return [option, undefined, undefined];
  const { tx, rx } = rejectUnknown(option, ['tx', 'rx'], 'options.rateLimit');
  return [undefined, tx, rx];
}

/** Whether a value is no instance of a class: a promise of a limit would otherwise pass as no limit. */
function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // The objects of another realm have another Object.prototype.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function common(options: Omit<CommonOptions, 'rateLimit'>): Settings {
  const pipeSize = integer('pipeSize', options.pipeSize, 1, 2 ** 31 - 1);
  const idleTimeout = milliseconds('idleTimeout', options.idleTimeout);
  return {
    signal: signal(options.signal),
    onProgress: callback('onProgress', options.onProgress),
    progressInterval: milliseconds('progressInterval', options.progressInterval) ?? 1000,
    reject: flag('reject', options.reject, true),
    moveOptions: {
      zeroCopy: flag('zeroCopy', options.zeroCopy, true),
      ...(pipeSize === undefined ? {} : { pipeSize }),
      ...(idleTimeout === undefined ? {} : { idleTimeout }),
    },
  };
}

export function signal(value: AbortSignal | undefined): AbortSignal | undefined {
  if (value === undefined || isAbortSignal(value)) return value;
  throw invalidType('options.signal', 'an AbortSignal', value);
}

export function flag<D extends boolean | undefined>(
  name: string,
  value: boolean | undefined,
  byDefault: D,
): boolean | D {
  if (value === undefined) return byDefault;
  if (typeof value === 'boolean') return value;
  throw invalidType(`options.${name}`, 'a boolean', value);
}

export function integer(
  name: string,
  value: number | undefined,
  min = 0,
  max = Number.MAX_SAFE_INTEGER,
): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw invalidType(`options.${name}`, 'a number', value);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw outOfRange(`options.${name}`, `a whole number from ${min} to ${max}`, value);
}

/** A duration within the range of Node's timers. `owner` is the name of the object that the option belongs to. */
export function milliseconds(name: string, value: number | undefined, owner = 'options'): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw invalidType(`${owner}.${name}`, 'a number', value);
  if (value > 0 && value <= 2 ** 31 - 1) return value;
  throw outOfRange(`${owner}.${name}`, `a number of milliseconds above 0 and at most ${2 ** 31 - 1}`, value);
}

export function callback<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw invalidType(`options.${name}`, 'a function', value);
}

function bytes(name: string, value: Uint8Array | undefined): Uint8Array | undefined {
  if (value === undefined) return undefined;
  if (types.isUint8Array(value)) return value;
  throw invalidType(`options.${name}`, 'a Buffer or Uint8Array', value);
}
