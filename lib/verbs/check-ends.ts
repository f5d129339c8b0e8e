// Checks the two ends of a copy or relay before anything is taken over.
import { discard, type Endpoint, requireDistinct } from '../endpoint/endpoint.js';
import { requireOwnPipes } from '../endpoint/pipes.js';

/** Inspects both ends. Throws a caller's mistake; nothing has been taken over then. */
export function checkEnds(first: () => Endpoint, second: () => Endpoint): [Endpoint, Endpoint] {
  const one = first();
  let other: Endpoint;
  try {
    other = second();
  } catch (mistake) {
    discard(one);
    throw mistake;
  }
  requireDistinct(one, other);
  try {
    requireOwnPipes(one, other);
  } catch (mistake) {
    discard(one, other);
    throw mistake;
  }
  return [one, other];
}
