// The part of a file that a transfer sends. Both engines and the HTTP side use this type; lib/file/range.ts computes it.

/** The part of a file to send, fixed by the size of the file when the transfer starts. */
export interface FileRange {
  /** First byte to send; `undefined`: from the descriptor's own position, which then advances. */
  start: number | undefined;
  /** Last byte to send, inclusive; `undefined`: until the end of the file. */
  last: number | undefined;
  /** Bytes to send; `undefined` for a file whose size is not known, as in procfs and sysfs. */
  length: number | undefined;
  /** Size that the file must keep so that the whole range can be sent; `undefined` with `length`. */
  size: number | undefined;
}
