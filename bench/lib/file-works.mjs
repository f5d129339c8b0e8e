// The works on files: HTTP requests for files, and copies from file to file, warm and cold.
import { join } from 'node:path';
import { root } from '../../scripts/lib/run.mjs';
import { loadFiles } from './load.mjs';
import { count as countText, size as sizeText } from './units.mjs';

/** On the disk of the checkout, because files in a tmpfs are never cold. */
const place = join(root, 'target/bench-files');

/** `total` requests for files of `size` bytes on four connections; cold: each request for another file. */
export function files(size, total, { cold = false } = {}) {
  const of = original(size, cold ? total : Math.min(total, 16));
  const args = (count) => [
    ...['--work', 'files', '--connections', `${Math.min(4, total)}`, '--path', `/${size}`],
    ...['--files', `${of.files}`, '--size', `${size}`, '--round-trips', `${count}`],
  ];
  return {
    work: 'files',
    name: `files-${size}-${cold ? 'cold' : 'warm'}`,
    title: `HTTP GET of files of ${sizeText(size)}, ${cold ? 'cold' : 'warm'}, ${countText(total, 'request')}`,
    role: 'files',
    settings: { directory: place },
    args: args(total),
    warmUp: args(Math.ceil(total / 3)),
    per: 'request',
    ...common(of, cold),
  };
}

/** Copies of `count` files, one after the other. */
export function copies(size, count, { cold = false } = {}) {
  const of = original(size, count);
  return {
    work: 'copies',
    name: `copies-${size}-${cold ? 'cold' : 'warm'}`,
    title: `file to file, ${count} of ${sizeText(size)}, ${cold ? 'cold' : 'warm'}`,
    role: 'copies',
    settings: { from: of.directory, to: join(place, 'copies'), size },
    args: count,
    warmUp: Math.ceil(count / 3),
    per: 'file',
    ...common(of, cold),
  };
}

function original(size, count) {
  return { directory: join(place, `${size}`), files: count, size };
}

function common(of, cold) {
  return {
    size: of.size,
    units: (result) => result.count,
    extra: ({ bytes, seconds }) => ({ bytesPerSecond: bytes / seconds }),
    prepare: () => loadFiles('make', of),
    ...(cold ? { evict: () => loadFiles('evict', of) } : {}),
  };
}
