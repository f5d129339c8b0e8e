import { invalidType, invalidValue, outOfRange } from './errors.js';
import type { CommonOptions, CopyOptions, RelayOptions, SendFileOptions } from './types.js';

const COMMON = ['signal', 'zeroCopy', 'pipeSize', 'reject'] as const;
const COPY = [...COMMON, 'start', 'length', 'position', 'endDestination', 'head'] as const;
const SEND_FILE = [...COMMON, 'start', 'end', 'endDestination'] as const;
const RELAY = [...COMMON, 'headFromA', 'headFromB'] as const;

/** The common options, checked, with their defaults. */
export interface Settings {
  signal: AbortSignal | undefined;
  zeroCopy: boolean;
  pipeSize: number | undefined;
  reject: boolean;
}

export interface CopySettings extends Settings {
  start: number | undefined;
  position: number | undefined;
  length: number | undefined;
  endDestination: boolean;
  head: Uint8Array | undefined;
}

export interface SendFileSettings extends Settings {
  start: number | undefined;
  end: number | undefined;
  endDestination: boolean;
}

export interface RelaySettings extends Settings {
  headFromA: Uint8Array | undefined;
  headFromB: Uint8Array | undefined;
}

export function copySettings(options: CopyOptions | undefined): CopySettings {
  const known = checked(options, COPY);
  return {
    ...common(known),
    start: whole('start', known.start),
    length: whole('length', known.length),
    position: whole('position', known.position),
    endDestination: flag('endDestination', known.endDestination, false),
    head: bytes('head', known.head),
  };
}

export function sendFileSettings(options: SendFileOptions | undefined): SendFileSettings {
  const known = checked(options, SEND_FILE);
  const [start, end] = [whole('start', known.start), whole('end', known.end)];
  if (start !== undefined && end !== undefined && end < start) {
    throw outOfRange('options.end', `at least options.start, which is ${start}`, end);
  }
  return {
    ...common(known),
    start,
    end,
    endDestination: flag('endDestination', known.endDestination, false),
  };
}

export function relaySettings(options: RelayOptions | undefined): RelaySettings {
  const known = checked(options, RELAY);
  return {
    ...common(known),
    headFromA: bytes('headFromA', known.headFromA),
    headFromB: bytes('headFromB', known.headFromB),
  };
}

function common(options: CommonOptions): Settings {
  return {
    signal: signal(options.signal),
    zeroCopy: flag('zeroCopy', options.zeroCopy, true),
    pipeSize: whole('pipeSize', options.pipeSize, 1, 2 ** 31 - 1),
    reject: flag('reject', options.reject, true),
  };
}

/** An option that does not exist is a mistake: ignoring it would pass for obeying it. */
function checked<O extends object>(options: O | undefined, known: readonly (keyof O & string)[]): Partial<O> {
  if (options === undefined) return {};
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidType('options', 'an object', options);
  }
  for (const key of Object.keys(options)) {
    if (!(known as readonly string[]).includes(key)) {
      throw invalidValue(`options.${key}`, `is not an option. Expected one of ${known.join(', ')}`);
    }
  }
  return options;
}

function signal(value: AbortSignal | undefined): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw invalidType('options.signal', 'an AbortSignal', value);
}

function flag(name: string, value: boolean | undefined, otherwise: boolean): boolean {
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

function bytes(name: string, value: Uint8Array | undefined): Uint8Array | undefined {
  if (value === undefined) return undefined;
  if (value instanceof Uint8Array) return value;
  throw invalidType(`options.${name}`, 'a Buffer or Uint8Array', value);
}
