//! The ways to move bytes: a few functions on descriptors each. They know nothing of limits,
//! timers or abort; [`direction`](crate::direction) decides when, an engine does it.

pub(crate) mod read_write;
pub(crate) mod splice;
