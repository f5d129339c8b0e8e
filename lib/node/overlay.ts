/**
 * Own properties laid over an object for a while, and lifted again: they change how one socket
 * behaves without touching what all sockets share.
 *
 * By plain assignment, so that all sockets laid over in one order share their layout in the engine:
 * a gateway's thousand connections would otherwise each be slow in everything that Node does to them.
 */
export class Shadow {
  readonly #target: Record<PropertyKey, unknown>;
  readonly #keys: PropertyKey[] = [];
  /** In the order of the keys; nothing where the property was that of the class. */
  readonly #before: (PropertyDescriptor | undefined)[] = [];

  constructor(target: object) {
    this.#target = target as Record<PropertyKey, unknown>;
  }

  lay(key: PropertyKey, value: unknown): void {
    if (!this.#keys.includes(key)) {
      this.#keys.push(key);
      this.#before.push(Object.getOwnPropertyDescriptor(this.#target, key));
    }
    this.#target[key] = value;
  }

  /** Lifts one property, or all. */
  lift(key?: PropertyKey): void {
    for (const each of key === undefined ? [...this.#keys] : [key]) {
      const at = this.#keys.indexOf(each);
      if (at < 0) continue;
      this.#keys.splice(at, 1);
      const [before] = this.#before.splice(at, 1);
      if (before === undefined) Reflect.deleteProperty(this.#target, each);
      else Object.defineProperty(this.#target, each, before);
    }
  }

  /**
   * The same for an object that nobody will use for long: what its class has is assigned, where a
   * property that is deleted would make the rest of its life slow.
   */
  retire(): void {
    const ofClass = Object.getPrototypeOf(this.#target) as Record<PropertyKey, unknown>;
    for (const [at, key] of this.#keys.entries()) {
      const before = this.#before[at];
      if (before === undefined) this.#target[key] = ofClass[key];
      else Object.defineProperty(this.#target, key, before);
    }
    this.#keys.length = 0;
    this.#before.length = 0;
  }
}
