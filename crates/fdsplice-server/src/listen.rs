//! Listening sockets: how they are made, and how they close without a reset for a queued client.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use rustix::fs::{Mode, OFlags, chmod, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, ipproto,
    listen, shutdown, socket_with, sockopt,
};

use crate::address::Address;
use crate::route::Route;

/// The kernel caps it at `net.core.somaxconn`, 4,096 by default.
const DEFAULT_BACKLOG: u32 = 4096;

/// What a server listens on.
#[derive(Debug)]
pub struct Listen {
    pub(crate) on: On,
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) routes: Option<Route>,
}

#[derive(Debug)]
pub(crate) enum On {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Inherited(OwnedFd),
}

impl Listen {
    /// A TCP address. Port 0 is one that is free. The unspecified IPv6 address serves IPv4 as well.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::new(On::Tcp(address))
    }

    /// The path of a Unix socket, which must not exist. The server removes it when it closes.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(On::Unix(path.into()))
    }

    /// A listening TCP or Unix stream socket, such as one of systemd. The server owns it. Its queue is
    /// left as it is when the server closes, because another process may share it.
    pub fn inherited(socket: OwnedFd) -> Self {
        Self::new(On::Inherited(socket))
    }

    fn new(on: On) -> Self {
        Self {
            on,
            backlog: DEFAULT_BACKLOG,
            reuse_port: false,
            mode: None,
            routes: None,
        }
    }

    /// How many connections may wait for an accept. Default 4,096. Each worker has a queue of its own.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether other sockets of the same user may listen on this address too (`SO_REUSEPORT`). Default
    /// `false`. A server with several workers then still sees any other owner of the address, but a
    /// later socket of the same user with this option can join.
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// The permissions of a Unix path. Default: all that the umask allows.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The routes of this listener. Default: those of the server.
    #[must_use]
    pub fn routes(mut self, routes: impl Into<Route>) -> Self {
        self.routes = Some(routes.into());
        self
    }
}

/// A listener of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// 0 for the first one of a server, then 1, and so on.
    pub number: u32,
    /// Its address, with the real port.
    pub address: Address,
}

/// Why a server does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// A system call failed: `EADDRINUSE` when the address has another owner.
    System {
        /// The error number.
        errno: Errno,
        /// The failed call.
        syscall: &'static str,
    },
    /// The inherited descriptor is no listening stream socket.
    NotListening,
    /// The server is closed, or is closing.
    Closed,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { errno, syscall } => write!(f, "{syscall} failed: {errno}"),
            Self::NotListening => f.write_str("expected a listening stream socket"),
            Self::Closed => f.write_str("the server is closed"),
        }
    }
}

impl Error for ListenError {}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> ListenError {
    move |errno| ListenError::System { errno, syscall }
}

/// What kind of listener it is decides how it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One socket for each worker.
    Tcp {
        is_loopback: bool,
    },
    Unix,
    InheritedTcp,
    InheritedUnix,
}

impl Kind {
    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp { .. } | Self::InheritedTcp)
    }

    pub(crate) fn is_inherited(self) -> bool {
        matches!(self, Self::InheritedTcp | Self::InheritedUnix)
    }
}

/// The sockets of one listener.
pub(crate) struct Opened {
    pub(crate) kind: Kind,
    pub(crate) address: Address,
    pub(crate) sockets: Vec<OwnedFd>,
    /// The path to remove when it closes.
    pub(crate) path: Option<PathBuf>,
}

impl Opened {
    /// Opens the sockets of a listener for this number of workers.
    pub(crate) fn open(
        listen: Listen,
        workers: usize,
        keep_alive: Option<Duration>,
    ) -> Result<Self, ListenError> {
        let backlog = i32::try_from(listen.backlog).unwrap_or(i32::MAX);
        let (kind, sockets, path) = match listen.on {
            On::Tcp(address) => {
                let sockets = open_group(address, backlog, listen.reuse_port, workers, keep_alive)?;
                let is_loopback = address.ip().to_canonical().is_loopback();
                (Kind::Tcp { is_loopback }, sockets, None)
            }
            On::Unix(path) => {
                let socket = open_unix(&path, backlog, listen.mode)?;
                (Kind::Unix, vec![socket], Some(path))
            }
            On::Inherited(socket) => {
                let kind = inherit(&socket, keep_alive)?;
                (kind, vec![socket], None)
            }
        };
        let address = getsockname(&sockets[0]).map_err(failed("getsockname"))?;
        let address = Address::from_any(address).ok_or(ListenError::NotListening)?;
        Ok(Self {
            kind,
            address,
            sockets,
            path,
        })
    }
}

/// The first socket is bound without `SO_REUSEPORT`, so that another owner of the address is seen. The
/// others can join it when it has the option (docs/decisions/accepting.md).
fn open_group(
    address: SocketAddr,
    backlog: i32,
    reuse_port: bool,
    workers: usize,
    keep_alive: Option<Duration>,
) -> Result<Vec<OwnedFd>, ListenError> {
    let first = open_tcp(address, reuse_port, keep_alive)?;
    bind(&first, &address).map_err(failed("bind"))?;
    if !reuse_port && workers > 1 {
        sockopt::set_socket_reuseport(&first, true).map_err(failed("setsockopt"))?;
    }
    listen(&first, backlog).map_err(failed("listen"))?;
    let bound = getsockname(&first).map_err(failed("getsockname"))?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        let socket = open_tcp(address, true, keep_alive)?;
        bind(&socket, &bound).map_err(failed("bind"))?;
        listen(&socket, backlog).map_err(failed("listen"))?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn open_tcp(
    address: SocketAddr,
    reuse_port: bool,
    keep_alive: Option<Duration>,
) -> Result<OwnedFd, ListenError> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
        .map_err(failed("socket"))?;
    let set = failed("setsockopt");
    if address.ip().is_unspecified() && address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false).map_err(&set)?;
    }
    // Connections of an earlier server that wait for their last packets do not hold the port.
    sockopt::set_socket_reuseaddr(&socket, true).map_err(&set)?;
    if reuse_port {
        sockopt::set_socket_reuseport(&socket, true).map_err(&set)?;
    }
    set_inherited_options(&socket, keep_alive).map_err(&set)?;
    Ok(socket)
}

/// Options that accepted sockets inherit, which saves calls for each connection.
fn set_inherited_options(socket: impl AsFd, keep_alive: Option<Duration>) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    set_keep_alive(socket, keep_alive)
}

pub(crate) fn set_keep_alive(socket: impl AsFd, idle: Option<Duration>) -> Result<(), Errno> {
    let Some(idle) = idle else {
        return Ok(());
    };
    sockopt::set_socket_keepalive(&socket, true)?;
    // The kernel takes whole seconds from 1 to 32,767 (`tcp(7)`).
    let idle = Duration::from_secs(idle.as_millis().div_ceil(1000).clamp(1, 32_767) as u64);
    sockopt::set_tcp_keepidle(socket, idle)
}

fn open_unix(path: &Path, backlog: i32, mode: Option<u32>) -> Result<OwnedFd, ListenError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(failed("socket"))?;
    let address = SocketAddrUnix::new(path).map_err(failed("bind"))?;
    bind(&socket, &address).map_err(failed("bind"))?;
    // Nobody can connect before `listen`, so the mode is there in time.
    let set = mode.map_or(Ok(()), |mode| {
        chmod(path, Mode::from_raw_mode(mode)).map_err(failed("chmod"))
    });
    let listening = set.and_then(|()| listen(&socket, backlog).map_err(failed("listen")));
    if listening.is_err() {
        remove(path);
    }
    listening.map(|()| socket)
}

/// Removes the path of a Unix listener. It may be gone already.
pub(crate) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn inherit(socket: &OwnedFd, keep_alive: Option<Duration>) -> Result<Kind, ListenError> {
    let not_listening = |errno| match errno {
        Errno::BADF => failed("getsockopt")(errno),
        _ => ListenError::NotListening,
    };
    let listens = sockopt::socket_acceptconn(socket).map_err(not_listening)?;
    let socket_type = sockopt::socket_type(socket).map_err(not_listening)?;
    let family = sockopt::socket_domain(socket).map_err(not_listening)?;
    if !listens || socket_type != SocketType::STREAM {
        return Err(ListenError::NotListening);
    }
    let kind = match family {
        AddressFamily::INET | AddressFamily::INET6 => Kind::InheritedTcp,
        AddressFamily::UNIX => Kind::InheritedUnix,
        _ => return Err(ListenError::NotListening),
    };
    if kind.is_tcp() {
        set_inherited_options(socket, keep_alive).map_err(failed("setsockopt"))?;
    }
    let flags = fcntl_getfl(socket).map_err(failed("fcntl"))?;
    fcntl_setfl(socket, flags | OFlags::NONBLOCK).map_err(failed("fcntl"))?;
    Ok(kind)
}

/// Turns new clients away while queued ones can still be accepted. `false`: the kernel does not allow
/// it, and whoever is in a handshake when the socket closes is reset.
pub(crate) fn hide(kind: Kind, socket: impl AsFd) -> bool {
    match kind {
        // No device has this index, so no new SYN reaches the socket.
        Kind::Tcp { .. } => setsockopt(&socket, BindToIfIndex, &0x7fff_ffff).is_ok(),
        Kind::Unix => shutdown(socket, Shutdown::Read).is_ok(),
        Kind::InheritedTcp | Kind::InheritedUnix => true,
    }
}

/// `SO_BINDTOIFINDEX` of `socket(7)`, which no crate offers.
#[derive(Clone, Copy)]
struct BindToIfIndex;

#[allow(unsafe_code, reason = "no safe wrapper of this option exists")]
mod bind_to_if_index {
    use super::BindToIfIndex;
    use nix::libc;

    // SAFETY of the expansion: it passes a pointer to an `i32` and its size to `setsockopt`.
    nix::setsockopt_impl!(
        BindToIfIndex,
        libc::SOL_SOCKET,
        libc::SO_BINDTOIFINDEX,
        i32,
        nix::sys::socket::sockopt::SetStruct<i32>
    );
}
