//! Transfers with a regular file, a device or another end that the reactor cannot wait for.

pub(crate) mod copy;
pub(crate) mod end;
mod engines;
mod holes;
pub(crate) mod job;
mod offsets;
pub(crate) mod read_ahead;
