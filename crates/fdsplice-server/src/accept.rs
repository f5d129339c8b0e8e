//! Accepting: one task for each listening socket.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use crate::address::Address;
use crate::listen::Kind;
use crate::race::{First, race};
use crate::record::{Event, ListenerError};
use crate::route::Route;
use crate::server::Shared;
use crate::socket::Socket;

/// The pause after a failure such as `EMFILE`. No event reports that a descriptor is free again.
const PAUSE: Duration = Duration::from_millis(200);
/// The most connections that are accepted before other tasks of the worker run.
const BATCH: usize = 64;

/// What the sockets of one listener have in common.
pub(crate) struct ListenerState {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) routes: Option<Route>,
}

/// How a listener closes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    /// Until then a client may still end its handshake.
    pub(crate) quiet: Instant,
    /// Queued clients that cannot be accepted until then are lost.
    pub(crate) last: Instant,
}

/// Why accepting has stopped for now.
enum Paused {
    /// The queue is empty.
    Empty,
    /// A batch is complete, and there may be more.
    Full,
    Failed(Errno),
}

/// The task that accepts from one socket.
pub(crate) struct Accepting {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: usize,
    pub(crate) listener: Arc<ListenerState>,
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) closing: watch::Receiver<Option<Closing>>,
}

impl Accepting {
    /// Accepts until the listener closes.
    pub(crate) async fn run(mut self) {
        let Some(registered) = self.register().await else {
            return;
        };
        let mut has_failed = false;
        loop {
            let paused = self.accept_batch();
            // Without this a failure that repeats would be reported each time.
            if !matches!(paused, Paused::Failed(_)) {
                has_failed = false;
            }
            let closes = match paused {
                Paused::Full => {
                    yield_now().await;
                    self.closing.borrow().is_some()
                }
                Paused::Empty => {
                    let closing = self.closing.wait_for(Option::is_some);
                    match race(registered.readable(), closing).await {
                        First::One(Ok(mut ready)) => {
                            // What arrives from here on is reported again. What has arrived before is
                            // accepted now.
                            ready.clear_ready();
                            false
                        }
                        _ => true,
                    }
                }
                Paused::Failed(errno) => {
                    if !has_failed {
                        self.report(errno, "accept4");
                    }
                    has_failed = true;
                    self.pause().await
                }
            };
            if closes {
                break;
            }
        }
        self.accept_rest(&registered).await;
    }

    /// Registers the socket, as soon as the kernel has memory for that. `None`: the listener closes.
    async fn register(&mut self) -> Option<AsyncFd<Arc<OwnedFd>>> {
        let mut has_failed = false;
        loop {
            let socket = Arc::clone(&self.socket);
            #[allow(
                unsafe_code,
                reason = "tokio requires a guarantee about the descriptor"
            )]
            // SAFETY: an `OwnedFd` never changes its descriptor, and the registration shares it, so it
            // is open until the registration is dropped.
            let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
            match registered {
                Ok(registered) => return Some(registered),
                Err(failure) if !has_failed => {
                    has_failed = true;
                    let (_, error) = failure.into_parts();
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    self.report(errno, "epoll_ctl");
                }
                Err(_) => {}
            }
            if self.pause().await {
                return None;
            }
        }
    }

    /// Waits for a moment. `true`: the listener closes.
    async fn pause(&mut self) -> bool {
        let closing = self.closing.wait_for(Option::is_some);
        matches!(race(sleep(PAUSE), closing).await, First::Other(_))
    }

    fn report(&self, errno: Errno, syscall: &'static str) {
        self.shared.report(Event::Listener(ListenerError {
            listener: self.listener.number,
            errno,
            syscall,
        }));
    }

    fn accept_batch(&self) -> Paused {
        for _ in 0..BATCH {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&self.socket, flags) {
                Ok((fd, address)) => {
                    let client = address.and_then(Address::from_any);
                    let client = client.unwrap_or(Address::Unix(None));
                    let socket = Socket::bare(fd, self.listener.kind.is_tcp());
                    self.shared
                        .accepted(self.worker, &self.listener, socket, client);
                }
                Err(Errno::AGAIN) => return Paused::Empty,
                Err(errno) if is_of_one_connection(errno) => {}
                Err(errno) => return Paused::Failed(errno),
            }
        }
        Paused::Full
    }

    /// Accepts what is queued, and what ends its handshake in time, before the socket is closed.
    async fn accept_rest(&self, registered: &AsyncFd<Arc<OwnedFd>>) {
        let closing = *self.closing.borrow();
        let Some(Closing { quiet, last }) = closing else {
            // The server itself is gone.
            return;
        };
        if self.listener.kind.is_inherited() {
            return;
        }
        loop {
            let is_last = Instant::now() >= quiet;
            match self.accept_batch() {
                Paused::Full => yield_now().await,
                Paused::Empty if is_last => return,
                Paused::Empty => {
                    let ready = race(registered.readable(), sleep_until(quiet)).await;
                    if let First::One(Ok(mut ready)) = ready {
                        ready.clear_ready();
                    }
                }
                // An empty queue reports a missing descriptor too.
                Paused::Failed(_) if is_last && !self.has_queued() => return,
                Paused::Failed(_) if Instant::now() >= last => return,
                Paused::Failed(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn has_queued(&self) -> bool {
        let mut polled = [PollFd::new(&*self.socket, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

/// Failures of one client, which `accept4` reports as its own (`accept(2)`).
fn is_of_one_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM
    )
}
