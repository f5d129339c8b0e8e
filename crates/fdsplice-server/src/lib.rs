//! Connections for relays: where they go, and how they are made.
//!
//! A [`Target`] is an address to connect to, [`connect`](connect()) makes a connection to it.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
// Every other item of this file exists on Linux alone, so that this is the only error elsewhere.
compile_error!("fdsplice-server needs Linux, as fdsplice does");

#[cfg(any(target_os = "linux", target_os = "android"))]
mod address;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod connect;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod target;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use address::Address;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use connect::{ConnectError, Connection, connect};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use target::{ParseTargetError, Target, TargetAddress};
