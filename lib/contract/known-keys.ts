import { invalidType, invalidValue } from './errors.js';

/** An option that does not exist is a mistake: ignoring it would pass for obeying it. */
export function checked<O extends object>(
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
