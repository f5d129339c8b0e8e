// The servers behind the relays for the independent programs: iperf3, and nginx with two files.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  createReadStream,
  mkdirSync,
  mkdtempSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from './children.mjs';
import { accepting, freePort } from './peers.mjs';

export const bigFile = { name: 'big', bytes: 2 ** 30 };
export const smallFile = { name: 'small', bytes: 1024 };

export function missingTools() {
  return ['iperf3', 'wrk', 'nginx', 'curl'].filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
}

/** Starts the servers; resolves with their addresses. */
export async function startServers() {
  const [iperf3, nginx] = [await startIperf(), await startNginx()];
  return { iperf3, nginx };
}

async function startIperf() {
  const port = await freePort();
  const args = ['--server', '--bind', '127.0.0.1', '--port', `${port}`, '--forceflush'];
  const child = new Child('iperf3', 'iperf3', args);
  while (!/^Server listening/.test(await child.line(10)));
  return `127.0.0.1:${port}`;
}

async function startNginx() {
  const directory = mkdtempSync(join(tmpdir(), 'fdsplice-nginx-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  // If root starts nginx, its worker runs as another user.
  chmodSync(directory, 0o755);
  const files = join(directory, 'files');
  mkdirSync(files);
  for (const { name, bytes } of [bigFile, smallFile]) {
    // A hole: the speed of the disk is not measured.
    writeFileSync(join(files, name), '');
    truncateSync(join(files, name), bytes);
  }
  // Read into the page cache. Otherwise the first relay would wait for the disk and get the bytes in smaller pieces.
  for await (const part of createReadStream(join(files, bigFile.name))) void part;
  const port = await freePort();
  const file = join(directory, 'nginx.conf');
  writeFileSync(file, configuration(port, directory, files));
  const child = new Child('nginx', 'nginx', ['-p', directory, '-c', file]);
  return `127.0.0.1:${await accepting(child, port)}`;
}

function configuration(port, directory, files) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${directory}/${name};`)
    .join('\n');
  return `daemon off;
worker_processes 1;
pid ${directory}/pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
${temporary}
  server {
    listen 127.0.0.1:${port} backlog=1024;
    root ${files};
  }
}
`;
}
