//! The Node.js binding of `fdsplice`: it converts arguments and results, and runs the threads of the
//! transfers. It moves no bytes itself.

mod connect;
mod convert;
mod delivery;
mod dispatcher;
mod files;
mod log;
mod loopback;
mod native_end;
mod native_rate_limiter;
mod numbers;
mod outcome;
mod registry;
mod running;
mod runtime;
mod sockets;
mod stats;
mod streams;

pub use connect::{Connector, NativeConnectFailure, NativeConnected};
pub use loopback::loopback_pair;
pub use native_end::{is_same, open_end};
pub use sockets::{NativePair, cork, socket_pair};
pub use stats::{capabilities, stats};
