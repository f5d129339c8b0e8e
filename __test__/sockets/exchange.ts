// Texts that are sent through a relay, and capitals that show which of them an object has changed.
import type { ExecutionContext } from 'ava';

import type { Pair } from '../helpers/pair.js';
import type { Peer } from '../helpers/peer.js';
import { within } from '../helpers/wait.js';

export const upper = (chunk: unknown) => Buffer.from(String(chunk).toUpperCase());

/** Sends a text each way through a relay, and ends both sides. */
export async function exchange(
  t: ExecutionContext,
  peer: Peer,
  { client, origin }: Pick<Pair, 'client' | 'origin'>,
  { toOrigin = 'to origin', toClient = 'to client' } = {},
): Promise<void> {
  await peer.writeText(client, 'to origin');
  await peer.writeText(origin, 'to client');
  t.is(await within(30_000, 'the text reaches the origin', peer.readText(origin, 9)), toOrigin);
  t.is(await within(30_000, 'the text reaches the client', peer.readText(client, 9)), toClient);
  await Promise.all([peer.shutdown(client), peer.shutdown(origin)]);
}
