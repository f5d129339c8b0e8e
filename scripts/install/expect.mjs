import { assert, assertSame } from '../lib/suite.mjs';

/** What a program has to have told where the native package is installed. */
export function isNative({ capabilities, engine, ...told }) {
  assert(capabilities.native, capabilities.reason);
  assertSame(capabilities.reason, undefined, 'the reason');
  assertSame(engine, 'native', 'the engine');
  return isRight({ capabilities, ...told });
}

/** What a program has to have told where it is not. */
export function isStreams({ capabilities, engine, ...told }) {
  assertSame(capabilities.native, false, 'native');
  assertSame(engine, 'stream', 'the engine');
  return isRight({ capabilities, ...told });
}

function isRight({ node, capabilities, ...checks }) {
  for (const [name, value] of Object.entries(checks)) assertSame(value, true, name);
  return `${node} ${JSON.stringify(capabilities)}`;
}

/** What a program has to have told where there is no native core, and why that is so. */
export function hasReason({ node, capabilities }, expected) {
  assertSame(capabilities.native, false, 'native');
  assert(capabilities.reason.includes(expected), capabilities.reason);
  return `${node}: ${capabilities.reason}`;
}
