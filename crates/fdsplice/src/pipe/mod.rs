//! Kernel pipes: the pool that leases them, and the budget of their capacity.

mod pool;
mod quota;

pub(crate) use pool::Lease;
pub use pool::{PipeStats, pipe_max_size, pipe_stats};
