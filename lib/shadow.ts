/**
 * Own properties laid over an object for a while, and lifted again: they change how one socket
 * behaves without touching what all sockets share.
 */
export class Shadow {
  readonly #target: object;
  readonly #before = new Map<PropertyKey, PropertyDescriptor | undefined>();

  constructor(target: object) {
    this.#target = target;
  }

  lay(key: PropertyKey, value: unknown): void {
    if (!this.#before.has(key)) this.#before.set(key, Object.getOwnPropertyDescriptor(this.#target, key));
    Object.defineProperty(this.#target, key, {
      value,
      writable: true,
      enumerable: false,
      configurable: true,
    });
  }

  /** Lifts one property, or all. */
  lift(key?: PropertyKey): void {
    for (const each of key === undefined ? [...this.#before.keys()] : [key]) {
      const before = this.#before.get(each);
      if (before === undefined) Reflect.deleteProperty(this.#target, each);
      else Object.defineProperty(this.#target, each, before);
      this.#before.delete(each);
    }
  }
}
