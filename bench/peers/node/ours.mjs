import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The package as its users import it, or as it is built in another checkout. */
export function loadOurs(checkout) {
  return import(checkout === undefined ? 'fdsplice' : pathToFileURL(resolve(checkout, 'dist/index.js')).href);
}
