//! Limits on a transfer: bytes per second, and the time it may be idle or half open.

pub(crate) mod deadline;
pub(crate) mod one_way;
pub(crate) mod rate;
pub(crate) mod relay;
