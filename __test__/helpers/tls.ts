// A self-signed certificate for localhost, and the options of a client that trusts it.
import { readFileSync } from 'node:fs';

const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');

export const identity = { key: fixture('localhost.key'), cert: fixture('localhost.crt') };
export const trust = { ca: identity.cert, servername: 'localhost' };
