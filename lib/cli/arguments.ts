// Parses the arguments and options of the command line, with errors that commander prints.
import bytes from 'bytes-iec';
import { InvalidArgumentError } from 'commander';
import ms, { type StringValue } from 'ms';
import { type AddressSpec, parseListenAddress, parseTargetAddress } from '../contract/address-text.js';
import { type EndpointSpec, parseEndpoint } from './endpoint-spec.js';

// Node's timers fire after 1 ms if the delay is longer than this.
const TIMER_MAX = 2 ** 31 - 1;

export const listenArgument = (text: string): AddressSpec => explain(() => parseListenAddress(text));

/** commander passes the targets before this one, or `undefined` with the first. */
export const targetsArgument = (text: string, before: AddressSpec[] = []): AddressSpec[] => [
  ...before,
  explain(() => parseTargetAddress(text)),
];

export const endpointArgument = (text: string): EndpointSpec => explain(() => parseEndpoint(text));

/** A size such as `10MiB` (powers of 1024), `10MB` (powers of 1000) or `65536`, as a number of bytes per second. */
export function rateArgument(text: string): number {
  const rate = bytes.parse(text);
  if (rate === null || !Number.isFinite(rate)) {
    throw new InvalidArgumentError('It is not a number of bytes such as 10MiB, 10MB or 65536.');
  }
  if (rate <= 0) {
    throw new InvalidArgumentError('It has to be above zero.');
  }
  return rate;
}

/** A duration such as `500ms`, `10s` or `2m`, in milliseconds. */
export function durationArgument(text: string): number {
  // `ms` throws on an empty string and returns undefined for anything else that it cannot parse.
  const duration: number | undefined = text === '' ? undefined : ms(text as StringValue);
  if (duration === undefined || !Number.isFinite(duration)) {
    throw new InvalidArgumentError('It is not a duration such as 500ms, 10s or 2m.');
  }
  if (duration <= 0) {
    throw new InvalidArgumentError('It has to be above zero.');
  }
  if (duration > TIMER_MAX) {
    throw new InvalidArgumentError('It is longer than 24 days.');
  }
  return duration;
}

/** A whole number above zero. */
export function countArgument(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || !Number.isSafeInteger(count)) {
    throw new InvalidArgumentError('It has to be a whole number above zero.');
  }
  return count;
}

/** Turns the error of a parser into one sentence for commander. */
function explain<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new InvalidArgumentError(`${reason[0]?.toUpperCase() ?? ''}${reason.slice(1)}.`);
  }
}
