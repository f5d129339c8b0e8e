// Rejects unknown keys in an options object: an option that is ignored silently would look as if it were obeyed.
import { invalidType, invalidValue } from './errors.js';

/**
 * Returns `options`, or an empty object without them.
 *
 * @throws a caller's mistake if `options` is not an object or has a key that is not in `known`
 */
export function rejectUnknown<O extends object>(
  options: O | undefined,
  known: readonly (keyof O & string)[],
  name = 'options',
): Partial<O> {
  if (options === undefined) return {};
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidType(name, 'an object', options);
  }
  for (const key of Object.keys(options)) {
    if (!(known as readonly string[]).includes(key)) {
      throw invalidValue(`${name}.${key}`, `is not an option. Expected one of ${known.join(', ')}`);
    }
  }
  return options;
}
