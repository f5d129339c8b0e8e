/**
 * A plain TCP relay with HAProxy's own choice of threads. It reserves two descriptors for each connection and pipes for a
 * quarter of them, and does not start without: room for the works here within 20,000.
 */
export function haproxyConfiguration(listen, target, options) {
  return `global
  maxconn 4800

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
