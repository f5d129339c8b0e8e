//! Kernel pipes: the pool that leases them, and the budget of their capacity.

mod kernel;
mod pool;
mod quota;
mod shelves;
mod sweep;

pub use pool::pipe_stats;
pub(crate) use pool::{Borrower, Lease};
pub use quota::pipe_max_size;
pub use shelves::PipeStats;
