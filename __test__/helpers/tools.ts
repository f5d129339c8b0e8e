import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

import test, { type ExecutionContext } from 'ava';

import { isNative, nativeTest } from './engine.js';

export const execFileAsync = promisify(execFile);

/**
 * A test that needs a tool of the system. Without it the test is skipped with the reason in its title, or fails where
 * FDSPLICE_REQUIRE_TOOLS=1 says that the tools are installed.
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

/** The same for what the core alone does. */
export const coreTestWithTool: typeof testWithTool = (tool, title, body) => {
  if (isNative) testWithTool(tool, title, body);
  else nativeTest(title, body);
};
