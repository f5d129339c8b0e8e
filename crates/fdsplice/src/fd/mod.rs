//! Descriptors: the kind of one, its possible roles in a transfer, and its registration with the
//! reactor.

mod descriptor;
mod endpoint;
mod pseudo;
mod registered;

pub(crate) use descriptor::{Descriptor, Status};
pub(crate) use endpoint::socket_kind;
pub use endpoint::{Endpoint, Kind, Role};
pub(crate) use pseudo::true_size_of;
pub(crate) use registered::{Ready, RegisteredFd};
