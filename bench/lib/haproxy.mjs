// The configuration of HAProxy as a peer.
/**
 * HAProxy reserves two descriptors for each connection and pipes for a quarter of them, and does not start without: this many
 * are within 20,000 descriptors.
 */
export const MAX_CONNECTIONS = 4800;

/** A plain TCP relay; without `workers`, with HAProxy's default number of threads. */
export function haproxyConfiguration({ listen, target, workers, options }) {
  const threads = workers === undefined ? '' : `  nbthread ${workers}\n`;
  return `global
  maxconn ${MAX_CONNECTIONS}
${threads}
defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
${options.map((option) => `  ${option}\n`).join('')}
listen relay
  bind ${listen} backlog 4096
  server origin ${target}
`;
}
