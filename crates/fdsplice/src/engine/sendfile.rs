//! File → socket in one call, without a pipe.
//!
//! It was measured against a splice through a leased pipe, in the same `send_file`: 512 MiB in the
//! page cache to a loopback socket with `reno`, calls of 1 MiB, rounds interleaved, on a machine
//! with other work on its two cores. The figures are CPU seconds per GiB of the sending process
//! (medians) and the median of splice ÷ sendfile within a round:
//!
//! | reader | rounds | sendfile | splice, 1 MiB pipe | ratio |
//! | --- | --- | --- | --- | --- |
//! | reads into 256 KiB | 31 | 0.091 | 0.070 | 0.81 |
//! | the same, 256 MiB, a minute later | 60 | 0.131 | 0.132 | 0.99 |
//! | the same, each process on a core of its own | 40 | 0.124 | 0.115 | 0.93 |
//! | discards (`MSG_TRUNC`), cores of their own | 40 | 0.235 | 0.232 | 0.94 |
//! | sleeps 60 µs after each read, 256 MiB | 30 | 0.142 | 0.145 | 1.00 |
//!
//! Shorter series of 9 to 15 rounds gave ratios of 0.94 and 1.10, and 1.04 and 1.05 with a reader
//! that sleeps. Smaller pipes gave 0.96 with 256 KiB and 1.24 with 64 KiB. The bare calls without
//! the rest of a copy took 0.124 (sendfile) and 0.100 (splice) in nine rounds, as CPU time of the
//! sending thread alone. Only one of these series shows more than a tenth for whole transfers.
//! Therefore file → socket is sendfile: it holds no pipe while a slow reader is waited for, and
//! takes nothing from the user's quota of pipes.

use std::os::fd::BorrowedFd;

use rustix::fs;
use rustix::io::{Errno, retry_on_intr};

/// Sends at most `most` bytes from `position` and advances it by the bytes sent. Returns 0 at the
/// end of the file, also when the file has been truncated.
pub(crate) fn sendfile(
    source: BorrowedFd<'_>,
    position: &mut u64,
    destination: BorrowedFd<'_>,
    most: usize,
) -> Result<usize, Errno> {
    retry_on_intr(|| fs::sendfile(destination, source, Some(position), most))
}
