//! Descriptors: the kind of one, its possible roles in a transfer, and its registration with the
//! reactor.

mod descriptor;
mod end;
mod endpoint;
mod facts;
mod loss;
mod pseudo;
mod registration;
mod send_queue;

pub(crate) use descriptor::{Descriptor, Status};
pub use end::TransferEnd;
pub use endpoint::Endpoint;
pub(crate) use endpoint::socket_kind;
pub(crate) use facts::{Facts, FdRef};
pub use facts::{Kind, Role};
pub(crate) use loss::LossWatch;
pub(crate) use pseudo::true_size_of;
