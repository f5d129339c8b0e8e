// The configurations of nginx as a peer: a file server, and a limited TCP relay.
/** The part of both configurations. `scratch` is a directory that every user may write to. */
function common({ scratch, workers = 'auto' }, modules = []) {
  return `${modules.map((file) => `load_module ${file};\n`).join('')}daemon off;
worker_processes ${workers};
pid ${scratch}/nginx.pid;
error_log stderr crit;
# The workers run as the user who started nginx, like every other peer; only root may choose a user.
${process.getuid() === 0 ? 'user root;' : ''}
events {
  worker_connections 4096;
}
`;
}

/** An HTTP server of a directory's files. */
export function filesConfiguration(settings) {
  const { listen, directory, scratch } = settings;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `${common(settings)}
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 10000000;
${temporary.map((name) => `  ${name}_temp_path ${scratch}/${name};\n`).join('')}
  server {
    listen ${listen} backlog=4096;
    root ${directory};
  }
}
`;
}

/** A TCP relay with a limit for each connection and direction. */
export function limitedConfiguration(settings) {
  const { listen, target, bytesPerSecond } = settings;
  return `${common(settings, [streamModule])}
stream {
  server {
    listen ${listen} backlog=4096;
    proxy_pass ${target};
    proxy_timeout 10m;
    proxy_half_close on;
    proxy_upload_rate ${bytesPerSecond};
    proxy_download_rate ${bytesPerSecond};
  }
}
`;
}

export const streamModule = '/usr/lib/nginx/modules/ngx_stream_module.so';
