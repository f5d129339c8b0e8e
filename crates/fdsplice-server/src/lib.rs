//! Servers that relay connections, and the connections that they make.
//!
//! A [`RelayServer`] accepts connections, connects each to a [`Target`] and relays it, on threads of its
//! own. [`connect`](connect()) makes one connection to a target.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
// Every other item of this file exists on Linux alone, so that this is the only error elsewhere.
compile_error!("fdsplice-server needs Linux, as fdsplice does");

#[cfg(any(target_os = "linux", target_os = "android"))]
mod accept;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod address;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod closing;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod connect;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod connection;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod incoming;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod listen;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod live;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod race;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod record;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod route;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod server;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod settings;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod socket;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod stats;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod target;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod worker;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use address::Address;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use connect::{ConnectError, Connection, connect};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use incoming::{Decision, Incoming};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use listen::{Listen, ListenError, Listener};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use record::{ConnectionError, Event, Interest, ListenerError, Record, Refusal};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use route::Route;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use server::RelayServer;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use settings::{Rate, ServerBuilder};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use stats::{ConnectionInfo, Counts, ServerStats, TargetStats};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use target::{ParseTargetError, Target, TargetAddress};
