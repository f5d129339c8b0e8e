// The bytes that the demo sends: random-looking, and cheap to produce.
import { createCipheriv, createHash } from 'node:crypto';

export const MiB = 2 ** 20;
export const GiB = 2 ** 30;

const BLOCK = 4 * MiB;
const CHUNK = 256 * 1024;
// Odd, so that the chunks start at every offset of the block before an offset repeats.
const STEP = 1_048_573;

/**
 * An endless stream determined by a seed. Its chunks are overlapping slices of one random block, so they cost nothing to
 * make. Neighbouring chunks differ, so a lost, doubled or swapped chunk changes the hash.
 */
export class SeededStream {
  #at = 0;

  constructor(seed) {
    const key = createHash('sha256').update(seed).digest().subarray(0, 16);
    this.block = createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(BLOCK));
  }

  next(length) {
    const chunk = this.block.subarray(this.#at, this.#at + Math.min(length, CHUNK));
    this.#at = (this.#at + STEP) % (BLOCK - CHUNK + 1);
    return chunk;
  }
}

export const newHash = () => createHash('sha256');
