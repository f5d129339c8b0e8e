// Loads the package under test.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The package by its name, or as it is built in another checkout. */
export function loadOurs(checkout) {
  return import(checkout === undefined ? 'fdsplice' : pathToFileURL(resolve(checkout, 'dist/index.js')).href);
}
