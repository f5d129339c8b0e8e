// Lays out the platform packages.
import { copyFileSync, cpSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, StepError } from '../lib/run.mjs';
import { targets } from '../lib/targets.mjs';

/** The documents beside the addon: its own licences and those of the libraries inside it. */
export const licences = ['LICENSE-APACHE', 'LICENSE-MIT', 'THIRD-PARTY.md'];

/**
 * Lays out the platform packages as they are published, each with its addon from `npm run build:target`. With `fresh`,
 * the addon for this machine's platform comes from `npm run build` instead. Platforms without an addon are left out.
 */
export function stage(folder, { fresh }) {
  const staged = [];
  for (const target of targets) {
    const own = join(root, `fdsplice.${target.platform}.node`);
    const addon = fresh && existsSync(own) ? own : target.file;
    if (!existsSync(addon)) continue;
    const path = join(folder, target.platform);
    mkdirSync(path, { recursive: true });
    cpSync(target.folder, path, { recursive: true });
    copyFileSync(addon, join(path, `fdsplice.${target.platform}.node`));
    for (const name of licences) copyFileSync(join(root, name), join(path, name));
    staged.push({ ...target, path });
  }
  if (staged.length === 0) throw new StepError('no addon is built: npm run build, or npm run build:target');
  return staged;
}
