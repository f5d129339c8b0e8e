// A certificate for localhost that nobody else trusts.
import { readFileSync } from 'node:fs';

const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');

export const identity = { key: fixture('localhost.key'), cert: fixture('localhost.crt') };
export const trust = { ca: identity.cert, servername: 'localhost' };
