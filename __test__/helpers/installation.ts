// Installations of the package as a package manager leaves them, with selected parts missing or broken.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';

import { ended, started, type Ended } from './copy-child.js';
import { directory } from './copy-files.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

interface Manifest {
  version: string;
  engines: { node: string };
  optionalDependencies: Record<string, string>;
}

export const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;

/** The path of the addon built in this checkout. */
export const addon = (platform: string): string => join(ROOT, `fdsplice.${platform}.node`);

export interface PlatformPackage {
  platform: string;
  version?: string;
  /** The contents of its `.node` file. If absent, the file is missing. */
  contents?: string | Buffer;
}

/** A folder whose node_modules holds the package and only the given platform packages. */
export function installation(t: ExecutionContext, ...packages: PlatformPackage[]): string {
  const folder = directory(t);
  const own = join(folder, 'node_modules/fdsplice');
  cpSync(join(ROOT, 'dist'), join(own, 'dist'), { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(own, 'package.json'));
  for (const { platform, version = manifest.version, contents } of packages) {
    const name = `@fdsplice/${platform}`;
    const path = join(folder, 'node_modules', name);
    const main = `fdsplice.${platform}.node`;
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'package.json'), JSON.stringify({ name, version, main }));
    if (contents !== undefined) writeFileSync(join(path, main), contents);
  }
  return folder;
}

/** Runs a program in that folder. It can import the package by name. */
export async function runIn(
  t: ExecutionContext,
  folder: string,
  program: string,
  ...options: string[]
): Promise<Ended> {
  const file = join(folder, 'program.mjs');
  writeFileSync(file, program);
  return ended(started(t, process.execPath, [...options, file], ['ignore', 'pipe', 'pipe']), 30_000);
}
