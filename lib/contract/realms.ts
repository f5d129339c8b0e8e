// Kinds of arguments that another realm may have made: jsdom, a polyfill, a context of `node:vm`, a test runner. They
// are no instances of this realm's classes, so they are recognised by what Node itself looks at.

/** Whether a transfer can listen to a value as an AbortSignal. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  return isObject(value) && 'aborted' in value && has(value, 'addEventListener');
}

/** The URL that a value stands for; `undefined` if it is none. The objects of `url.parse()` are none. */
export function urlOf(value: unknown): URL | undefined {
  if (value instanceof URL) return value;
  if (!isObject(value)) return undefined;
  const { href, protocol, auth, path } = value as Record<string, unknown>;
  const isUrl = typeof href === 'string' && Boolean(protocol) && auth === undefined && path === undefined;
  return isUrl && URL.canParse(href) ? new URL(href) : undefined;
}

/** Whether a value is a web stream, or holds a pair of them as a `TransformStream` does. */
export function isWebStream(value: unknown): boolean {
  if (!isObject(value)) return false;
  if (has(value, 'getReader') || has(value, 'getWriter')) return true;
  return 'readable' in value && isObject(value.readable) && has(value.readable, 'getReader');
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function has(value: object, method: string): boolean {
  return typeof Reflect.get(value, method) === 'function';
}
