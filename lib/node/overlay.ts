// Own properties that lie over an object for the time of a transfer: they change how one socket behaves and leave the
// class that all sockets share alone.

/**
 * A set of own properties laid over one object.
 *
 * They are set by plain assignment, so that all sockets that are laid over in the same order share their layout in the
 * JavaScript engine. With a layout each, a thousand connections would be slow in everything that Node does to them.
 */
export class PropertyOverlay {
  readonly #target: Record<PropertyKey, unknown>;
  readonly #keys: PropertyKey[] = [];
  /** In the order of the keys; `undefined` where the property came from the class. */
  readonly #before: (PropertyDescriptor | undefined)[] = [];

  constructor(target: object) {
    this.#target = target as Record<PropertyKey, unknown>;
  }

  set(key: PropertyKey, value: unknown): void {
    if (!this.#keys.includes(key)) {
      this.#keys.push(key);
      this.#before.push(Object.getOwnPropertyDescriptor(this.#target, key));
    }
    this.#target[key] = value;
  }

  /** Restores one property, or all of them. */
  restore(key?: PropertyKey): void {
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
   * Restores all properties of an object that will not be used for long. The value that its class has is assigned:
   * deleting the property would make every later access to the object slow.
   */
  detach(): void {
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
