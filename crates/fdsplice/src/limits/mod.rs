//! Limits on a transfer: bytes per second, and the time that it may be idle or half open.

mod bucket;
pub(crate) mod deadline;
pub(crate) mod one_way;
pub(crate) mod rate;
pub(crate) mod relay;
