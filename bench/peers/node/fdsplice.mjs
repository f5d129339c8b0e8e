// Our relay as a user of the package writes it. `--package` selects another built checkout.
import { loadOurs } from './ours.mjs';
import { report, serve, settings } from './serve.mjs';

const { RateLimiter, relay } = await loadOurs(settings.package);

const options = {};
if (settings['rate-limit']) options.rateLimit = new RateLimiter(Number(settings['rate-limit']));
if (settings['read-write']) options.zeroCopy = false;

serve(
  (client, upstream) => {
    relay(client, upstream, options).catch(report);
  },
  { pauseOnConnect: true },
);
