//! Outgoing connections.

mod attempts;
mod error;
mod resolve;
mod socket;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, getpeername, getsockname};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::target::{Target, TargetAddress};
use attempts::Attempts;
pub use error::ConnectError;
use socket::{Started, connect_unix, start_tcp};

/// The time limit of a target that has none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
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
        address(getsockname(&self.fd).ok()?)
    }

    /// The address of the target that has answered. `None` when the connection has failed meanwhile.
    pub fn remote_address(&self) -> Option<Address> {
        address(getpeername(&self.fd).ok()??)
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

fn address(address: SocketAddrAny) -> Option<Address> {
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Some(Address::Ip(address));
    }
    let address = rustix::net::SocketAddrUnix::try_from(address).ok()?;
    let path = address.path_bytes().filter(|path| !path.is_empty());
    let path = path.map(|path| Path::new(&*String::from_utf8_lossy(path)).to_owned());
    Some(Address::Unix(path))
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
        Progress::Waits(fd) => {
            let limit = target.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
            let connected = timeout(limit, finish(target, fd)).await;
            connected.map_err(|_| ConnectError::TimedOut)??
        }
    };
    Ok(Connection {
        fd,
        connect_time: start.elapsed(),
    })
}

enum Progress {
    Connected(OwnedFd),
    /// With the socket of an attempt that has started.
    Waits(Option<OwnedFd>),
}

/// Starts a connect that needs no resolver. Most of those on one machine are then done.
fn at_once(target: &Target) -> Result<Progress, ConnectError> {
    match &target.address {
        TargetAddress::Ip(address) => Ok(match start_tcp(*address, target.local_address)? {
            Started::Connected(fd) => Progress::Connected(fd),
            Started::InProgress(fd) => Progress::Waits(Some(fd)),
        }),
        TargetAddress::Host { .. } => Ok(Progress::Waits(None)),
        TargetAddress::Unix(path) => match connect_unix(path) {
            Ok(fd) => Ok(Progress::Connected(fd)),
            Err(error) if is_full(error) => Ok(Progress::Waits(None)),
            Err(error) => Err(error),
        },
    }
}

/// Whether the queue of a Unix listener is full.
fn is_full(error: ConnectError) -> bool {
    matches!(error, ConnectError::System { errno, syscall: "connect" } if errno == Errno::AGAIN)
}

/// Waits for a connect that was not done at once.
async fn finish(target: &Target, started: Option<OwnedFd>) -> Result<OwnedFd, ConnectError> {
    let stream = match (&target.address, started) {
        (TargetAddress::Host { host, port }, _) => {
            let addresses = resolve::resolve(host).await?;
            let usable: Vec<_> = addresses
                .iter()
                .filter(|it| {
                    let local = target.local_address;
                    local.is_none_or(|local| local.is_ipv4() == it.is_ipv4())
                })
                .map(|it| with_port(*it, *port))
                .collect();
            Attempts::new(&usable, target.local_address).first().await?
        }
        (_, Some(fd)) => Attempts::resume(fd)?.first().await?,
        (TargetAddress::Unix(path), None) => return wait_for_queue(path).await,
        (TargetAddress::Ip(address), None) => {
            Attempts::new(&[*address], target.local_address)
                .first()
                .await?
        }
    };
    unregister(stream)
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

fn unregister(stream: TcpStream) -> Result<OwnedFd, ConnectError> {
    match stream.into_std() {
        Ok(stream) => Ok(stream.into()),
        Err(error) => Err(ConnectError::System {
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
            syscall: "epoll_ctl",
        }),
    }
}
