//! Transfers with an end that the reactor cannot wait for: a regular file, a device, or a pipe or
//! terminal that only blocks. Also files that are opened by the core itself.

pub(crate) mod by_path;
pub(crate) mod copy;
pub(crate) mod end;
mod holes;
mod job;
mod offsets;
mod range;
pub(crate) mod read_ahead;
