//! Attempts at several addresses of one name, as in RFC 8305.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::error::ConnectError;
use super::socket::{Started, start_tcp};

/// The time between two attempts (RFC 8305, section 8).
const DELAY: Duration = Duration::from_millis(250);

/// Attempts that run side by side. Dropping them closes their sockets.
///
/// Invariant: while an address is left, an attempt runs, and `next_at` is when the next one starts.
pub(super) struct Attempts {
    left: VecDeque<SocketAddr>,
    running: Vec<TcpStream>,
    local_address: Option<IpAddr>,
    next_at: Pin<Box<Sleep>>,
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
            next_at: Box::pin(sleep(Duration::ZERO)),
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
            let is_due = self.running.is_empty() || self.next_at.as_mut().poll(cx).is_ready();
            let next = if is_due { self.left.pop_front() } else { None };
            let Some(address) = next else {
                if self.running.is_empty() {
                    let failure = self.failure.take();
                    return Poll::Ready(Err(
                        failure.unwrap_or(ConnectError::Resolve { code: "ENOTFOUND" })
                    ));
                }
                return Poll::Pending;
            };
            self.next_at.as_mut().reset(Instant::now() + DELAY);
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
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            self.failed(ConnectError::system(errno, "connect"));
            // The next attempt does not wait for the rest of the delay.
            self.next_at.as_mut().reset(Instant::now());
        }
        None
    }

    fn failed(&mut self, error: ConnectError) {
        self.failure.get_or_insert(error);
    }
}

/// Registers a socket with the reactor of the current runtime.
pub(super) fn register(fd: OwnedFd) -> Result<TcpStream, ConnectError> {
    TcpStream::from_std(fd.into()).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        ConnectError::system(errno, "epoll_ctl")
    })
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
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns_in_the_order_of_the_resolver() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect(text);
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(parse);
        let wanted = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(parse);
        assert_eq!(Vec::from(interleave(&given)), wanted);
        assert!(interleave(&[]).is_empty());
    }

    /// A listener whose queue is full, so that a connect to it waits, and the connection that fills it.
    fn silent(ip: &str) -> (std::net::TcpListener, std::net::TcpStream) {
        use rustix::net::listen;
        let listener = std::net::TcpListener::bind((ip, 0)).expect("a listener");
        listen(&listener, 0).expect("a short queue");
        let address = listener.local_addr().expect("its address");
        let queued = std::net::TcpStream::connect(address).expect("the queued connection");
        (listener, queued)
    }

    fn address(listener: &std::net::TcpListener) -> SocketAddr {
        listener.local_addr().expect("its address")
    }

    #[tokio::test]
    async fn an_attempt_that_waits_does_not_hold_up_the_next_one() {
        let (waits, _queued) = silent("127.0.0.1");
        let answers = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let given = [address(&waits), address(&answers)];
        let socket = Attempts::new(&given, None).first().await.expect("one");
        assert_eq!(socket.peer_addr().ok(), Some(address(&answers)));
    }

    #[tokio::test]
    async fn an_earlier_attempt_goes_on_beside_the_next_one() {
        let (late, queued) = silent("127.0.0.1");
        let (never, _queued) = silent("127.0.0.1");
        let given = [address(&late), address(&never)];
        let attempts = tokio::spawn(Attempts::new(&given, None).first());
        sleep(2 * DELAY).await;
        let _ = late.accept().expect("the queued connection");
        drop(queued);
        let socket = attempts.await.expect("no panic").expect("one");
        assert_eq!(socket.peer_addr().ok(), Some(address(&late)));
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
