//! Attempts at several addresses of one name, as in RFC 8305.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::error::ConnectError;
use super::socket::{Started, start_tcp};

/// The time between two attempts (RFC 8305, section 8).
const DELAY: Duration = Duration::from_millis(250);

/// Attempts that run side by side. Dropping them closes their sockets.
///
/// Invariant: `delay` holds up the next attempt only while one runs and none has failed since it started.
pub(super) struct Attempts {
    left: VecDeque<SocketAddr>,
    running: Vec<TcpStream>,
    local_address: Option<IpAddr>,
    delay: Option<Pin<Box<Sleep>>>,
    /// The first failure. It tells most, because the resolver orders the addresses by how likely they are
    /// to be reached (RFC 6724).
    failure: Option<ConnectError>,
}

impl Attempts {
    /// Attempts at these addresses, in their order, with the families in turn.
    pub(super) fn new(addresses: &[SocketAddr], local_address: Option<IpAddr>) -> Self {
        Self {
            left: interleave(addresses),
            running: Vec::new(),
            local_address,
            delay: None,
            failure: None,
        }
    }

    /// An attempt that runs already.
    pub(super) fn resume(fd: OwnedFd) -> Result<Self, ConnectError> {
        let mut attempts = Self::new(&[], None);
        attempts.running.push(register(fd)?);
        Ok(attempts)
    }

    /// Returns the first connection that stands.
    pub(super) async fn first(mut self) -> Result<TcpStream, ConnectError> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<TcpStream, ConnectError>> {
        loop {
            if let Some(socket) = self.poll_running(cx) {
                return Poll::Ready(Ok(socket));
            }
            if let Some(delay) = &mut self.delay {
                ready!(delay.as_mut().poll(cx));
            }
            let Some(address) = self.left.pop_front() else {
                if !self.running.is_empty() {
                    return Poll::Pending;
                }
                let failure = self.failure.take();
                return Poll::Ready(Err(
                    failure.unwrap_or(ConnectError::Resolve { code: "ENOTFOUND" })
                ));
            };
            self.delay = (!self.left.is_empty()).then(|| Box::pin(sleep(DELAY)));
            match start_tcp(address, self.local_address) {
                Ok(Started::Connected(fd)) => return Poll::Ready(register(fd)),
                Ok(Started::InProgress(fd)) => match register(fd) {
                    Ok(socket) => self.running.push(socket),
                    Err(error) => self.failed(error),
                },
                Err(error) => self.failed(error),
            }
        }
    }

    /// Returns a running attempt that has succeeded, and removes those that have failed.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Option<TcpStream> {
        let mut index = 0;
        while let Some(socket) = self.running.get(index) {
            let Poll::Ready(ready) = socket.poll_write_ready(cx) else {
                index += 1;
                continue;
            };
            let failure = ready.err().or_else(|| socket.take_error().ok().flatten());
            let socket = self.running.swap_remove(index);
            let Some(error) = failure else {
                return Some(socket);
            };
            self.failed(ConnectError::io(&error, "connect"));
        }
        None
    }

    fn failed(&mut self, error: ConnectError) {
        self.failure.get_or_insert(error);
        // The next attempt does not wait for the rest of the delay.
        self.delay = None;
    }
}

/// Registers a socket with the reactor of the current runtime.
pub(super) fn register(fd: OwnedFd) -> Result<TcpStream, ConnectError> {
    TcpStream::from_std(fd.into()).map_err(|error| ConnectError::io(&error, "epoll_ctl"))
}

/// The addresses with their families in turn, beginning with the family of the first one.
fn interleave(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first() else {
        return VecDeque::new();
    };
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) = addresses
        .iter()
        .copied()
        .partition(|it| it.is_ipv4() == first.is_ipv4());
    let mut ordered = VecDeque::with_capacity(addresses.len());
    while !one.is_empty() || !other.is_empty() {
        ordered.extend(one.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

#[cfg(test)]
#[path = "../../tests/connect_support/mod.rs"]
mod connect_support;

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::connect_support::Silent;
    use super::*;

    #[test]
    fn the_families_take_turns_in_the_order_of_the_resolver() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect(text);
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(parse);
        let wanted = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(parse);
        assert_eq!(Vec::from(interleave(&given)), wanted);
        assert!(interleave(&[]).is_empty());
    }

    fn address(listener: &std::net::TcpListener) -> SocketAddr {
        listener.local_addr().expect("its address")
    }

    #[tokio::test]
    async fn an_attempt_that_waits_does_not_hold_up_the_next_one() {
        let waits = Silent::new("127.0.0.1");
        let answers = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let given = [waits.address(), address(&answers)];
        let socket = Attempts::new(&given, None).first().await.expect("one");
        assert_eq!(socket.peer_addr().ok(), Some(address(&answers)));
    }

    #[tokio::test]
    async fn an_earlier_attempt_goes_on_beside_the_next_one() {
        let late = Silent::new("127.0.0.1");
        let never = Silent::new("127.0.0.1");
        let given = [late.address(), never.address()];
        let attempts = tokio::spawn(Attempts::new(&given, None).first());
        sleep(2 * DELAY).await;
        let _ = late.listener.accept().expect("the queued connection");
        let socket = attempts.await.expect("no panic").expect("one");
        assert_eq!(socket.peer_addr().ok(), Some(late.address()));
    }

    #[tokio::test]
    async fn a_failure_starts_the_next_attempt_and_the_first_failure_is_reported() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let refuses = address(&free);
        drop(free);
        let answers = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let given = [refuses, address(&answers)];
        let socket = Attempts::new(&given, None).first().await.expect("one");
        assert_eq!(socket.peer_addr().ok(), Some(address(&answers)));

        let far = "192.0.2.1:9".parse().expect("an address");
        let local = "127.0.0.1".parse().ok();
        let error = Attempts::new(&[refuses, far], local).first().await;
        let wanted = ConnectError::system(Errno::CONNREFUSED, "connect");
        assert_eq!(error.expect_err("no listener"), wanted);
    }
}
