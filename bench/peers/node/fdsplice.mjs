// Ours, as the package's users write it. `--package` names another built checkout of it.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { serve, settings } from './serve.mjs';

const checkout = settings.package;
const { relay } = await import(
  checkout === undefined ? 'fdsplice' : pathToFileURL(resolve(checkout, 'dist/index.js')).href
);

serve(
  (client, upstream) => {
    relay(client, upstream).catch((error) => console.error(String(error)));
  },
  { pauseOnConnect: true },
);
