//! The end and the loss of a connection, as one end of a transfer finds them.

use std::fmt;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, Shutdown, getpeername, recv, shutdown, sockopt};
use tokio::io::Interest;

use crate::fd::TransferEnd;
use crate::fd::facts::Kind;
use crate::fd::registration::Waiting;

impl TransferEnd<'_> {
    /// Takes an error that the reactor has reported. Does not wait for one.
    pub(crate) fn take_failure(&self) -> Option<Errno> {
        if !self.is_reported(Interest::ERROR) {
            return None;
        }
        self.attempt(Interest::ERROR, || ((), true));
        if self.facts.is_socket() {
            // `None`: a read or write has taken the error, and reports it.
            self.take_loss().map(|errno| self.explain(errno))
        } else {
            // A pipe reports this when its last reader has closed it.
            Some(Errno::PIPE)
        }
    }

    /// Sends FIN. The peer sees the end of input and can still send. Does nothing for a pipe, which
    /// ends when its last writer closes it.
    pub(crate) fn end(&self) -> Result<(), Errno> {
        if !self.facts.is_socket() {
            return Ok(());
        }
        shutdown(self, Shutdown::Write).map_err(|errno| match errno {
            // The connection is lost. Its pending error, if there is one, gives the cause.
            Errno::NOTCONN => self.take_error().unwrap_or(errno),
            _ => errno,
        })
    }

    /// Replaces `EPIPE` by `ECONNRESET` where a TCP socket has lost its connection. Such a socket
    /// reports the cause only once, and `EPIPE` from then on. The cause itself is `EPIPE` when the reset
    /// came after the FIN of the peer, which is recorded: a transfer ends with the first error that
    /// it sees. `EPIPE` from a connected socket means that it was shut down for writing.
    pub(crate) fn explain(&self, errno: Errno) -> Errno {
        let explained = self.explain_later(errno);
        if explained != errno {
            self.ended_before_reset.store(true, Ordering::Relaxed);
        }
        explained
    }

    /// As [`TransferEnd::explain`], after a call that may have taken the cause. `EPIPE` then does not
    /// show that a FIN came first.
    pub(crate) fn explain_later(&self, errno: Errno) -> Errno {
        if errno == Errno::PIPE && self.is_lost() {
            return Errno::CONNRESET;
        }
        errno
    }

    /// Whether the error that was found is a reset after the end of input.
    pub(crate) fn ended_before_reset(&self) -> bool {
        self.ended_before_reset.load(Ordering::Relaxed)
    }

    /// Whether this is a TCP socket that has lost its connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.kind() == Kind::Tcp && getpeername(self) == Err(Errno::NOTCONN)
    }

    /// The number of bytes that the next read of one byte returns: 0 at the end of input.
    pub(crate) fn peek(&self) -> Result<usize, Errno> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        retry_on_intr(|| recv(self, &mut [0_u8; 1], flags)).map(|(_, length)| length)
    }

    /// Takes the pending error, and records whether the end of input came before it. Later, reads return
    /// 0 in either case.
    fn take_loss(&self) -> Option<Errno> {
        let peeked = if self.kind() == Kind::Tcp {
            self.peek()
        } else {
            Err(Errno::AGAIN)
        };
        if peeked == Ok(0) {
            self.ended_before_reset.store(true, Ordering::Relaxed);
        }
        // Without an end and without bytes, the peek has taken the error. The others come from a policy
        // that forbids the call, and from a socket whose error was taken before.
        let taken = peeked.err().filter(|errno| {
            !matches!(
                *errno,
                Errno::AGAIN
                    | Errno::PERM
                    | Errno::ACCESS
                    | Errno::NOSYS
                    | Errno::INVAL
                    | Errno::NOTCONN
            )
        });
        self.take_error().or(taken)
    }

    fn take_error(&self) -> Option<Errno> {
        sockopt::socket_error(self).ok()?.err()
    }
}

/// Detects the failure of an end that is neither read nor written at the moment. Otherwise its reads
/// and writes report the failure.
pub(crate) struct LossWatch<'a> {
    end: &'a TransferEnd<'a>,
    /// Made when the watch first waits, which most short transfers never do.
    waiting: Option<Waiting<'a>>,
}

impl<'a> LossWatch<'a> {
    pub(crate) fn new(end: &'a TransferEnd<'a>) -> Self {
        Self { end, waiting: None }
    }

    /// Ready with the failure of the end. Otherwise, a later one wakes the task of `cx`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Errno> {
        loop {
            if let Some(errno) = self.end.take_failure() {
                return Poll::Ready(errno);
            }
            let end = self.end;
            let waiting = self
                .waiting
                .get_or_insert_with(|| end.wait_for(Interest::ERROR));
            let Poll::Ready(reported) = waiting.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            self.waiting = None;
            match reported {
                // The runtime of the registration has ended.
                Err(_) => return Poll::Ready(Errno::CANCELED),
                Ok(_) if !end.facts.is_socket() => return Poll::Ready(Errno::PIPE),
                Ok(_) => {}
            }
        }
    }

    /// Ends the wait, because the end is read or written again.
    pub(crate) fn rest(&mut self) {
        self.waiting = None;
    }
}

impl fmt::Debug for LossWatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossWatch")
            .field("end", &self.end)
            .field("waits", &self.waiting.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    use super::*;
    use crate::fd::Endpoint;

    /// The reactor is gone while the caller still polls.
    #[test]
    fn an_end_whose_runtime_has_ended_is_watched_without_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (socket, _peer) = UnixStream::pair().expect("a pair of sockets");
        let endpoint = Endpoint::try_from(OwnedFd::from(socket)).expect("an endpoint");
        let mut end = TransferEnd::from(endpoint);
        runtime.block_on(async { end.register().expect("a registration") });
        drop(runtime);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(
            LossWatch::new(&end).poll(&mut cx),
            Poll::Ready(Errno::CANCELED)
        );
        assert_eq!(
            end.poll_readable(&mut cx),
            Poll::Ready(Err(Errno::CANCELED))
        );
        assert!(!end.is_urgent() && end.take_failure().is_none());
    }
}
