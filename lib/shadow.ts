/**
 * Own properties laid over an object for a while, and lifted again: they change how one socket
 * behaves without touching what all sockets share.
 *
 * By plain assignment, so that all sockets laid over in one order share their layout in the engine:
 * a gateway's thousand connections would otherwise each be slow in everything that Node does to them.
 */
export class Shadow {
  readonly #target: Record<PropertyKey, unknown>;
  readonly #before = new Map<PropertyKey, PropertyDescriptor | undefined>();

  constructor(target: object) {
    this.#target = target as Record<PropertyKey, unknown>;
  }

  lay(key: PropertyKey, value: unknown): void {
    if (!this.#before.has(key)) this.#before.set(key, Object.getOwnPropertyDescriptor(this.#target, key));
    this.#target[key] = value;
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

  /**
   * The same for an object that nobody will use for long: what its class has is assigned, where a
   * property that is deleted would make the rest of its life slow.
   */
  retire(): void {
    const ofClass = Object.getPrototypeOf(this.#target) as Record<PropertyKey, unknown>;
    for (const [key, before] of this.#before) {
      if (before === undefined) this.#target[key] = ofClass[key];
      else Object.defineProperty(this.#target, key, before);
    }
    this.#before.clear();
  }
}
