//! A peer whose reads and writes are independent of each other, and each in the order of the calls.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::net::{SendFlags, Shutdown, send, shutdown, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Tcp6,
    Unix,
}

impl Transport {
    /// The two ends of a connection, both blocking.
    pub(crate) fn connected(self) -> (OwnedFd, OwnedFd) {
        let tcp = |host| {
            let listener = TcpListener::bind((host, 0)).expect("a listener");
            let address = listener.local_addr().expect("an address");
            let outer = TcpStream::connect(address).expect("a connection");
            let (inner, _) = listener.accept().expect("an accepted connection");
            (outer.into(), inner.into())
        };
        match self {
            Transport::Tcp => tcp("127.0.0.1"),
            Transport::Tcp6 => tcp("::1"),
            Transport::Unix => {
                let (outer, inner) = UnixStream::pair().expect("a socket pair");
                (outer.into(), inner.into())
            }
        }
    }
}

enum Output {
    Send(usize),
    HalfClose,
}

enum Input {
    Exactly(usize),
    ToEnd,
}

#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    half_closed: AtomicBool,
    saw_end: AtomicBool,
    /// Whether a write has failed. A socket reports a reset only once, so after a failed write a read
    /// sees an end.
    write_failed: AtomicBool,
}

/// The state of a peer at the end of a schedule.
pub(crate) struct Ending {
    /// Bytes that its kernel accepted.
    pub(crate) sent: usize,
    pub(crate) received: Vec<u8>,
    pub(crate) half_closed: bool,
    /// Whether it saw the end of input. Otherwise the connection was reset, by the relay or by itself.
    pub(crate) saw_end: bool,
    /// Whether it has reset the connection.
    pub(crate) reset: bool,
}

pub(crate) struct Peer {
    socket: Option<Arc<AsyncFd<OwnedFd>>>,
    transport: Transport,
    progress: Arc<Progress>,
    outputs: UnboundedSender<Output>,
    inputs: UnboundedSender<Input>,
    writer: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
    received: Arc<Mutex<Vec<u8>>>,
    reset: bool,
}

impl Peer {
    /// Starts a peer that sends `stream` in parts.
    pub(crate) fn start(socket: OwnedFd, transport: Transport, stream: &'static [u8]) -> Self {
        rustix::io::ioctl_fionbio(&socket, true).expect("a non-blocking socket");
        let socket = Arc::new(registered(socket));
        let progress = Arc::new(Progress::default());
        let received = Arc::default();
        let (outputs, queue) = unbounded_channel();
        let writer = tokio::spawn(write_in_turn(
            Arc::clone(&socket),
            queue,
            stream,
            Arc::clone(&progress),
        ));
        let (inputs, queue) = unbounded_channel();
        let reader = tokio::spawn(read_in_turn(
            Arc::clone(&socket),
            queue,
            Arc::clone(&progress),
            Arc::clone(&received),
        ));
        Self {
            socket: Some(socket),
            transport,
            progress,
            outputs,
            inputs,
            writer: Some(writer),
            reader: Some(reader),
            received,
            reset: false,
        }
    }

    pub(crate) fn send(&self, bytes: usize) {
        // This fails after a reset of the connection by this peer.
        let _ = self.outputs.send(Output::Send(bytes));
    }

    pub(crate) fn half_close(&self) {
        let _ = self.outputs.send(Output::HalfClose);
    }

    pub(crate) fn read(&self, bytes: usize) {
        let _ = self.inputs.send(Input::Exactly(bytes));
    }

    pub(crate) fn read_to_end(&self) {
        let _ = self.inputs.send(Input::ToEnd);
    }

    /// Closes the connection at once, with a reset on TCP.
    pub(crate) async fn reset(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        self.reset = true;
        for task in [self.writer.take(), self.reader.take()]
            .into_iter()
            .flatten()
        {
            task.abort();
            let _ = task.await;
        }
        if self.transport != Transport::Unix {
            sockopt::set_socket_linger(socket.get_ref(), Some(Duration::ZERO)).expect("an option");
        }
        drop(socket);
    }

    /// Waits until all its writes and reads have ended.
    pub(crate) async fn ended(mut self) -> Ending {
        drop(self.outputs);
        drop(self.inputs);
        for task in [self.writer.take(), self.reader.take()]
            .into_iter()
            .flatten()
        {
            task.await.expect("no panic");
        }
        let received = std::mem::take(&mut *self.received.lock().expect("a lock"));
        Ending {
            sent: self.progress.sent.load(Ordering::Relaxed),
            received,
            half_closed: self.progress.half_closed.load(Ordering::Relaxed),
            saw_end: self.progress.saw_end.load(Ordering::Relaxed)
                && !self.progress.write_failed.load(Ordering::Relaxed),
            reset: self.reset,
        }
    }
}

async fn write_in_turn(
    socket: Arc<AsyncFd<OwnedFd>>,
    mut queue: UnboundedReceiver<Output>,
    stream: &'static [u8],
    progress: Arc<Progress>,
) {
    while let Some(output) = queue.recv().await {
        let Output::Send(bytes) = output else {
            let ended = shutdown(socket.get_ref(), Shutdown::Write).is_ok();
            progress.half_closed.store(ended, Ordering::Relaxed);
            return;
        };
        let mut left = bytes;
        while left > 0 {
            let at = progress.sent.load(Ordering::Relaxed);
            let part = &stream[at..at + left];
            let Ok(sent) = when_ready(&socket, Interest::WRITABLE, |fd| {
                send(fd, part, SendFlags::NOSIGNAL)
            })
            .await
            else {
                progress.write_failed.store(true, Ordering::Relaxed);
                return;
            };
            progress.sent.store(at + sent, Ordering::Relaxed);
            left -= sent;
        }
    }
}

async fn read_in_turn(
    socket: Arc<AsyncFd<OwnedFd>>,
    mut queue: UnboundedReceiver<Input>,
    progress: Arc<Progress>,
    received: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Some(input) = queue.recv().await {
        let mut left = match input {
            Input::Exactly(bytes) => bytes,
            Input::ToEnd => usize::MAX,
        };
        while left > 0 {
            let most = left.min(buffer.len());
            let part = &mut buffer[..most];
            match when_ready(&socket, Interest::READABLE, |fd| read(fd, &mut *part)).await {
                Ok(0) => {
                    progress.saw_end.store(true, Ordering::Relaxed);
                    return;
                }
                Ok(got) => {
                    received
                        .lock()
                        .expect("a lock")
                        .extend_from_slice(&buffer[..got]);
                    left -= got;
                }
                Err(_) => return,
            }
        }
    }
}

async fn when_ready(
    socket: &AsyncFd<OwnedFd>,
    interest: Interest,
    mut call: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
) -> io::Result<usize> {
    socket
        .async_io(interest, |fd| call(fd.as_fd()).map_err(io::Error::from))
        .await
}

fn registered(socket: OwnedFd) -> AsyncFd<OwnedFd> {
    #[allow(
        unsafe_code,
        reason = "tokio requires a guarantee about the descriptor"
    )]
    // SAFETY: an owned descriptor refers to the same open file until it is dropped.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.expect("a reactor")
}
