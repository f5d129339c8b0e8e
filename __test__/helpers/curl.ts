import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { buffer, text } from 'node:stream/consumers';

export interface Fetched {
  /** curl's exit status: 0 where the transfer is complete. */
  exit: number | null;
  body: Buffer;
  /** Of the last response. */
  status: number;
  /** Of the last response, by their names in lower case. */
  headers: Partial<Record<string, string>>;
}

/** Runs curl, and gives what it received and how it ended. */
export async function curl(...args: string[]): Promise<Fetched> {
  const told = '%{stderr}\n{"status":%{response_code},"headers":%{header_json}}';
  const common = ['--silent', '--show-error', '--max-time', '60', '--write-out', told];
  const child = spawn('curl', [...common, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [body, said] = await Promise.all([buffer(child.stdout), text(child.stderr), once(child, 'close')]);
  const json = said.slice(said.indexOf('\n{'));
  const { status, headers } = JSON.parse(json) as { status: number; headers: Record<string, string[]> };
  const joined = Object.entries(headers).map(([name, values]) => [name, values.join(', ')]);
  return { exit: child.exitCode, body, status, headers: Object.fromEntries(joined) as Fetched['headers'] };
}
