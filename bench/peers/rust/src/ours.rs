//! The parts that only the relays on our own core need.

use std::{io, os::fd::OwnedFd};

use fdsplice::{Endpoint, Reason, TrafficResult};
use tokio::net::TcpStream;

use crate::Ending;

impl Ending for TrafficResult {
    const USES_TIME: bool = true;

    fn into_result(self) -> io::Result<()> {
        let Some(error) = self.error else {
            return Ok(());
        };
        Err(match error.reason {
            Reason::System { errno, .. } => errno.into(),
            _ => io::Error::other(error),
        })
    }
}

/// The descriptor of a socket as an end of a relay. It leaves tokio's reactor, and the relay registers it again.
///
/// # Errors
/// Fails if the socket cannot be taken out of the reactor.
pub fn owned(socket: TcpStream) -> io::Result<Endpoint> {
    let socket = OwnedFd::from(socket.into_std()?);
    Endpoint::try_from(socket).map_err(io::Error::other)
}
