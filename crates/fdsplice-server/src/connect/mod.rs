//! Outgoing connections.

mod attempts;
mod error;
mod resolve;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{getpeername, getsockname};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::target::{Target, TargetAddress};
use attempts::Attempts;
pub use error::ConnectError;
use socket::{Started, connect_unix, start_tcp};

/// The time limit of a target that has none.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time between two attempts at a Unix listener whose queue is full.
const FULL_QUEUE: Duration = Duration::from_millis(10);

/// A connection to a target: one nonblocking socket, which is registered with no runtime. Dropping it
/// closes the socket.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    connect_time: Duration,
}

impl Connection {
    /// The time from the call to the connection.
    pub fn connect_time(&self) -> Duration {
        self.connect_time
    }

    /// The address of this end. `None` when the connection has failed meanwhile.
    pub fn local_address(&self) -> Option<Address> {
        Address::from_any(getsockname(&self.fd).ok()?)
    }

    /// The address of the target that has answered. `None` when the connection has failed meanwhile.
    pub fn remote_address(&self) -> Option<Address> {
        Address::from_any(getpeername(&self.fd).ok()??)
    }

    /// The socket, which now belongs to the caller.
    pub fn into_socket(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Connects to a target, within its time limit or 10 s.
///
/// A name is resolved by the resolver of the system on a thread of its own. Its addresses are used again
/// for 2 s, a failure for 1 s. They are tried as in RFC 8305: the families take turns, a new attempt
/// starts every 250 ms, or at once when one fails, and none is given up before one has succeeded.
///
/// # Errors
/// [`ConnectError`]. Of several attempts it is the first failure.
///
/// # Cancel safety
/// Dropping the future closes the sockets of all attempts. A lookup of a name goes on, for the next
/// caller.
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
pub async fn connect(target: &Target) -> Result<Connection, ConnectError> {
    let start = Instant::now();
    let fd = match at_once(target)? {
        Progress::Connected(fd) => fd,
        waiting => finish(waiting, target, DEFAULT_TIMEOUT).await?.into_fd()?,
    };
    Ok(Connection {
        fd,
        connect_time: start.elapsed(),
    })
}

/// A connection that was waited for: some are registered with the reactor.
pub(crate) enum Connected {
    Bare(OwnedFd),
    Registered(TcpStream),
}

impl Connected {
    fn into_fd(self) -> Result<OwnedFd, ConnectError> {
        match self {
            Self::Bare(fd) => Ok(fd),
            Self::Registered(socket) => match socket.into_std() {
                Ok(socket) => Ok(socket.into()),
                Err(error) => Err(ConnectError::io(&error, "epoll_ctl")),
            },
        }
    }
}

/// How far a connect has come without waiting.
pub(crate) enum Progress<'a> {
    Connected(OwnedFd),
    /// An attempt that has started.
    Attempt(OwnedFd),
    /// A name that has to be resolved, and the port.
    Name(&'a str, u16),
    /// A Unix listener whose queue is full.
    FullQueue(&'a Path),
}

/// Starts a connect. Those that need no resolver are then done, if they stay on one machine.
pub(crate) fn at_once(target: &Target) -> Result<Progress<'_>, ConnectError> {
    match &target.address {
        TargetAddress::Ip(address) => Ok(match start_tcp(*address, target.local_address)? {
            Started::Connected(fd) => Progress::Connected(fd),
            Started::InProgress(fd) => Progress::Attempt(fd),
        }),
        TargetAddress::Host { host, port } => Ok(Progress::Name(host, *port)),
        TargetAddress::Unix(path) => match connect_unix(path) {
            Ok(fd) => Ok(Progress::Connected(fd)),
            Err(error) if is_full(error) => Ok(Progress::FullQueue(path)),
            Err(error) => Err(error),
        },
    }
}

/// Whether the queue of a Unix listener is full.
fn is_full(error: ConnectError) -> bool {
    matches!(error, ConnectError::System { errno, syscall: "connect" } if errno == Errno::AGAIN)
}

/// Waits for a connect that was not done at once, within the time limit of the target or `default`.
pub(crate) async fn finish(
    progress: Progress<'_>,
    target: &Target,
    default: Duration,
) -> Result<Connected, ConnectError> {
    let limit = target.connect_timeout.unwrap_or(default);
    let finished = timeout(limit, wait(progress, target.local_address)).await;
    finished.map_err(|_| ConnectError::TimedOut)?
}

async fn wait(
    progress: Progress<'_>,
    local_address: Option<IpAddr>,
) -> Result<Connected, ConnectError> {
    let attempts = match progress {
        Progress::Connected(fd) => return Ok(Connected::Bare(fd)),
        Progress::FullQueue(path) => return wait_for_queue(path).await.map(Connected::Bare),
        Progress::Attempt(fd) => Attempts::resume(fd)?,
        Progress::Name(host, port) => {
            let addresses = resolve::resolve(host).await?;
            let usable: Vec<_> = addresses
                .iter()
                .filter(|it| local_address.is_none_or(|local| local.is_ipv4() == it.is_ipv4()))
                .map(|it| with_port(*it, port))
                .collect();
            Attempts::new(&usable, local_address)
        }
    };
    attempts.first().await.map(Connected::Registered)
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Connects when the queue of a Unix listener has room. The kernel reports no room to a socket that is
/// not connected, so this asks again.
async fn wait_for_queue(path: &Path) -> Result<OwnedFd, ConnectError> {
    loop {
        sleep(FULL_QUEUE).await;
        match connect_unix(path) {
            Err(error) if is_full(error) => {}
            result => return result,
        }
    }
}
