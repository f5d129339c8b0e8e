// Tests that need a tool of the system: strace, curl, python3 and others.
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

import test, { type ExecutionContext } from 'ava';

import { isNative, nativeTest } from './engine.js';

export const execFileAsync = promisify(execFile);

/**
 * A serial test that needs a tool of the system. If the tool is missing, the test is skipped with the reason in its
 * title. With FDSPLICE_REQUIRE_TOOLS=1 it fails instead.
 */
export function testWithTool(
  tool: string,
  title: string,
  body: (t: ExecutionContext) => Promise<void>,
): void {
  if (spawnSync(tool, ['--version']).status === 0) {
    test.serial(title, body);
  } else if (process.env['FDSPLICE_REQUIRE_TOOLS'] === '1') {
    test.serial(title, (t) => t.fail(`${tool} is not installed`));
  } else {
    test.serial.skip(`${title} (${tool} is not installed)`, body);
  }
}

/** Like `testWithTool`, for a test that also needs the native core. */
export const coreTestWithTool: typeof testWithTool = (tool, title, body) => {
  if (isNative) testWithTool(tool, title, body);
  else nativeTest(title, body);
};
