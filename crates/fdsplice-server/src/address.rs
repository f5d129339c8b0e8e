//! The address of one end of a connection.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// The local or remote address of a connection or a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 address with its port.
    Ip(SocketAddr),
    /// The path of a Unix socket. `None` for a socket without a name, such as that of most clients.
    Unix(Option<PathBuf>),
}

impl Address {
    /// `None` for an address of another family.
    pub(crate) fn from_any(address: SocketAddrAny) -> Option<Self> {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return Some(Self::Ip(address));
        }
        let address = SocketAddrUnix::try_from(address).ok()?;
        let path = address.path_bytes().filter(|path| !path.is_empty());
        let path = path.map(|path| Path::new(&*String::from_utf8_lossy(path)).to_owned());
        Some(Self::Unix(path))
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `unix:/path`, or `unix:` without a name.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}
