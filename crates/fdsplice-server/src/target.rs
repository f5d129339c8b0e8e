//! Where a connection goes.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The longest path of a Unix socket, without the zero byte that ends it (`unix(7)`).
const MAX_PATH: usize = 107;
/// The longest host name in text (RFC 1035), with the final dot.
const MAX_HOST: usize = 254;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// An address that needs no resolver.
    Ip(SocketAddr),
    /// A name that is resolved for each connection, and its port.
    Host {
        /// The host name.
        host: Box<str>,
        /// The port, never 0.
        port: u16,
    },
    /// The path of a listening Unix socket.
    Unix(PathBuf),
}

/// A target of connections: its address, and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub(crate) address: TargetAddress,
    pub(crate) local_address: Option<IpAddr>,
    pub(crate) connect_timeout: Option<Duration>,
}

impl Target {
    /// A target with this address.
    ///
    /// # Errors
    /// When the port is 0, the host is empty, longer than 254 bytes or has a zero byte, or the path is
    /// empty, longer than 107 bytes or has a zero byte.
    pub fn new(address: TargetAddress) -> Result<Self, ParseTargetError> {
        let port = match &address {
            TargetAddress::Ip(address) => address.port(),
            TargetAddress::Host { host, port } => {
                if host.is_empty() || host.len() > MAX_HOST || host.contains('\0') {
                    return Err(ParseTargetError::Host);
                }
                *port
            }
            TargetAddress::Unix(path) => {
                let path = path.as_os_str().as_encoded_bytes();
                if path.is_empty() || path.len() > MAX_PATH || path.contains(&0) {
                    return Err(ParseTargetError::Path);
                }
                1
            }
        };
        if port == 0 {
            return Err(ParseTargetError::Port);
        }
        Ok(Self {
            address,
            local_address: None,
            connect_timeout: None,
        })
    }

    /// A host name or a literal IP address, and a port. An IPv6 address may have brackets and a numeric
    /// zone (`fe80::1%2`).
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn host(host: &str, port: u16) -> Result<Self, ParseTargetError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Some(address) = literal(bare.unwrap_or(host), port) {
            return Self::new(TargetAddress::Ip(address));
        }
        if bare.is_some() {
            return Err(ParseTargetError::Host);
        }
        let host = host.into();
        Self::new(TargetAddress::Host { host, port })
    }

    /// The local address to connect from. Default: chosen by the kernel.
    #[must_use]
    pub fn local_address(mut self, address: IpAddr) -> Self {
        self.local_address = Some(address);
        self
    }

    /// The longest time until the connection stands, with the resolution of the name. Default: that of
    /// the server or call.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// The address.
    pub fn address(&self) -> &TargetAddress {
        &self.address
    }
}

/// A literal IP address. [`SocketAddr`] does not parse a zone without a port.
fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    let (address, zone) = host.split_once('%')?;
    let address = address.parse::<Ipv6Addr>().ok()?;
    let zone = zone.parse().ok()?;
    Some(std::net::SocketAddrV6::new(address, port, 0, zone).into())
}

/// `host:port`, `[::1]:port` or `unix:/path`.
impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::new(TargetAddress::Unix(path.into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(ParseTargetError::Port)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(ParseTargetError::Host);
        }
        // `u16::from_str` accepts a plus sign.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseTargetError::Port);
        }
        Self::host(host, port.parse().map_err(|_| ParseTargetError::Port)?)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            TargetAddress::Ip(address) => address.fmt(f),
            TargetAddress::Host { host, port } => write!(f, "{host}:{port}"),
            TargetAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text or an address is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseTargetError {
    /// The host is empty, too long, or an IPv6 address without brackets.
    Host,
    /// The port is missing, 0, above 65535 or no number.
    Port,
    /// The path of a Unix socket is empty, too long, or has a zero byte.
    Path,
}

impl fmt::Display for ParseTargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "expected a host name or an IP address, of IPv6 in brackets",
            Self::Port => "expected a port from 1 to 65535",
            Self::Path => "expected a path of 1 to 107 bytes",
        })
    }
}

impl Error for ParseTargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, ParseTargetError> {
        text.parse()
    }

    #[test]
    fn a_target_is_shown_as_it_is_written() {
        for text in [
            "127.0.0.1:80",
            "[::1]:443",
            "[fe80::1%2]:1",
            "example.org:65535",
            "example.org.:80",
            "unix:/run/app.sock",
            "unix:relative",
        ] {
            assert_eq!(parse(text).map(|it| it.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_literal_address_needs_no_resolver() {
        for text in ["127.0.0.1:80", "[::1]:443", "[fe80::1%2]:1"] {
            let target = parse(text).expect(text);
            assert!(matches!(target.address(), TargetAddress::Ip(_)), "{text}");
        }
        let bare = Target::host("::1", 80).expect("an address");
        assert_eq!(Ok(bare), parse("[::1]:80"));
    }

    #[test]
    fn what_is_no_target_is_refused_with_its_reason() {
        use ParseTargetError::{Host, Path, Port};
        let long = format!("unix:{}", "p".repeat(108));
        let name = format!("{}:80", "h".repeat(255));
        for (text, error) in [
            ("", Port),
            ("host", Port),
            ("host:", Port),
            ("host:0", Port),
            ("host:65536", Port),
            ("host:+80", Port),
            ("host:8o", Port),
            (":80", Host),
            ("::1:80", Host),
            ("[example.org]:80", Host),
            ("[]:80", Host),
            ("a\0b:80", Host),
            ("unix:", Path),
            ("unix:/a\0b", Path),
            (&long, Path),
            (&name, Host),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
