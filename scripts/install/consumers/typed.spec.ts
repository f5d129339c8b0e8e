// Uses the package from TypeScript that a test runner compiles. The result goes into the file that RESULT names.
import { writeFileSync } from 'node:fs';
import * as fdsplice from 'fdsplice';
import type { Transfer } from 'fdsplice';
import { exchange } from './exchange.cjs';

declare function it(title: string, run: () => Promise<void>): void;

export type Relay = (...ends: Parameters<typeof fdsplice.relay>) => Transfer;

it('relays', async () => {
  writeFileSync(String(process.env['RESULT']), JSON.stringify(await exchange(fdsplice)));
});
