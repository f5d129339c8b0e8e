//! Limits on a transfer: bytes per second, the time that it may be idle or half open, and the memory
//! for held bytes.

mod bucket;
pub(crate) mod deadline;
pub(crate) mod memory;
pub(crate) mod one_way;
pub(crate) mod rate;
pub(crate) mod relay;
