// Runs curl, so that responses are checked by an HTTP client that is independent of Node.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { buffer, text } from 'node:stream/consumers';

export interface Fetched {
  /** The exit status of curl: 0 if the transfer is complete. */
  exit: number | null;
  body: Buffer;
  /** The status of the last response. */
  status: number;
  /** The headers of the last response, by lower-case name. */
  headers: Partial<Record<string, string>>;
}

/** Runs curl and returns the body, the status and the headers that it received. */
export async function curl(...args: string[]): Promise<Fetched> {
  const report = '%{stderr}\n{"status":%{response_code},"headers":%{header_json}}';
  const common = ['--silent', '--show-error', '--max-time', '60', '--write-out', report];
  const child = spawn('curl', [...common, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [body, errors] = await Promise.all([buffer(child.stdout), text(child.stderr), once(child, 'close')]);
  const json = errors.slice(errors.indexOf('\n{'));
  const { status, headers } = JSON.parse(json) as { status: number; headers: Record<string, string[]> };
  const joined = Object.entries(headers).map(([name, values]) => [name, values.join(', ')]);
  return { exit: child.exitCode, body, status, headers: Object.fromEntries(joined) as Fetched['headers'] };
}
