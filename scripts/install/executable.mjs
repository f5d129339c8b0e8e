// A program and Node in one executable file.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from './process.mjs';

/** What Node looks for in itself. */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/** Writes a bundle and a Node into one executable file of that folder, and returns its path. */
export async function executable({ bundle, folder, binary, tools }) {
  const [config, blob, file] = ['config.json', 'blob', 'program'].map((name) => join(folder, name));
  writeFileSync(config, JSON.stringify({ main: bundle, output: blob, disableExperimentalSEAWarning: true }));
  await output(binary, ['--experimental-sea-config', config]);
  copyFileSync(binary, file);
  await output(process.execPath, [tools.postject, file, 'NODE_SEA_BLOB', blob, '--sentinel-fuse', FUSE]);
  return file;
}
