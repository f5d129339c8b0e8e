//! Parts of the core that its micro-benchmarks call, behind the feature `bench`. They are not part of
//! the public interface and may change at any time.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::Poll;

use crate::direction::Direction;
use crate::direction::plan::{Plan, Route};
use crate::fd::{Endpoint, TransferEnd};
use crate::pipe::{Borrower, Lease};
use crate::threads::{self, Lane};
use crate::traffic::Control;

/// Takes a pipe from the pool, or makes one, and gives it back.
///
/// # Panics
/// When no pipe can be made.
pub fn lease_and_return() {
    drop(Lease::take(None, Borrower::Worker).expect("a pipe"));
}

/// Makes a pipe with a capacity in bytes, and closes it.
///
/// # Panics
/// When no pipe can be made.
pub fn lease_of(capacity: usize) {
    let mut lease = Lease::take(Some(capacity), Borrower::Worker).expect("a pipe");
    // The pool closes a pipe that holds bytes.
    lease.filled(1);
}

/// Makes a call on a thread for calls that may block, and waits for it.
///
/// # Panics
/// When no thread can be started.
pub async fn call_on_a_thread<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = threads::reserve(Lane::Files(0, 0)).expect("a thread");
    thread.run(|_| call()).await
}

/// One direction between two sockets.
#[derive(Debug)]
pub struct Joint {
    source: TransferEnd<'static>,
    destination: TransferEnd<'static>,
    direction: Direction,
    control: Control,
}

impl Joint {
    /// Registers both sockets with the current runtime.
    ///
    /// # Panics
    /// For any other kind than stream sockets, and outside a runtime with I/O enabled.
    pub fn new(source: OwnedFd, destination: OwnedFd) -> Self {
        let register = |fd: OwnedFd| {
            let endpoint = Endpoint::try_from(fd).expect("a socket");
            let mut end = TransferEnd::from(endpoint);
            end.register().expect("a registration");
            end
        };
        let (source, destination) = (register(source), register(destination));
        Self {
            direction: Direction::new(Plan::default(), Some(source.facts()), destination.facts()),
            source,
            destination,
            control: Control::new(),
        }
    }

    /// Polls the direction until the destination has accepted `bytes` more bytes.
    ///
    /// # Panics
    /// When the direction fails or ends first.
    pub async fn carry(&mut self, bytes: usize) {
        let target = self.control.traffic().tx + bytes as u64;
        poll_fn(|cx| {
            let route = Route {
                source: Some(&self.source),
                destination: &self.destination,
                counter: self.control.tx(),
            };
            let ended = self.direction.poll(cx, route, None);
            assert!(ended.is_pending(), "the direction ended: {ended:?}");
            if self.control.traffic().tx >= target {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
