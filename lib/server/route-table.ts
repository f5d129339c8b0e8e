// Gives each different route of a server one number, so that an answer to the core is two numbers.
import type { TargetSpec } from '../contract/target.js';

/** Registers a route in the core and returns its number, 0 or above. */
export type RegisterRoute = (targets: TargetSpec[]) => number;

/** The numbers of routes. The targets of a list take turns, also across connections that were decided one by one. */
export class RouteTable {
  readonly #numbers = new Map<string, number>();
  readonly #register: RegisterRoute;

  constructor(register: RegisterRoute) {
    this.#register = register;
  }

  numberOf(targets: TargetSpec[]): number {
    const key = keyOf(targets);
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#register(targets);
      this.#numbers.set(key, number);
    }
    return number;
  }
}

/** No text of a target has a zero byte. */
function keyOf(targets: TargetSpec[]): string {
  return targets
    .map((target) => `${target.text}\0${target.localAddress ?? ''}\0${target.connectTimeout ?? ''}`)
    .join('\0');
}
