import { createCipheriv, createHash } from 'node:crypto';

export const MiB = 2 ** 20;
export const GiB = 2 ** 30;

const BLOCK = 4 * MiB;
const PIECE = 256 * 1024;
// Odd, so that the pieces start at every place of the block before one comes again.
const STEP = 1_048_573;

/**
 * An endless stream that a seed stands for, in pieces that cost nothing to make: overlapping parts of one random
 * block, none of them like its neighbours, so that a lost, doubled or swapped piece changes the hash.
 */
export class SeededStream {
  #at = 0;

  constructor(seed) {
    const key = createHash('sha256').update(seed).digest().subarray(0, 16);
    this.block = createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(BLOCK));
  }

  next(length) {
    const piece = this.block.subarray(this.#at, this.#at + Math.min(length, PIECE));
    this.#at = (this.#at + STEP) % (BLOCK - PIECE + 1);
    return piece;
  }
}

export const newHash = () => createHash('sha256');
