// The results that a consumer's program has to report.
import { assert, assertSame } from '../lib/suite.mjs';

/** Asserts the result where the native package is installed. */
export function isNative({ capabilities, engine, ...result }) {
  assert(capabilities.native, capabilities.reason);
  assertSame(capabilities.reason, undefined, 'the reason');
  assertSame(engine, 'native', 'the engine');
  return isRight({ capabilities, ...result });
}

/** Asserts the result where no native package is installed. */
export function isStreams({ capabilities, engine, ...result }) {
  assertSame(capabilities.native, false, 'native');
  assertSame(engine, 'stream', 'the engine');
  return isRight({ capabilities, ...result });
}

function isRight({ node, capabilities, ...checks }) {
  for (const [name, value] of Object.entries(checks)) assertSame(value, true, name);
  return `${node} ${JSON.stringify(capabilities)}`;
}

/** Asserts that there is no native core, for the expected reason. */
export function hasReason({ node, capabilities }, expected) {
  assertSame(capabilities.native, false, 'native');
  assert(capabilities.reason.includes(expected), capabilities.reason);
  return `${node}: ${capabilities.reason}`;
}
