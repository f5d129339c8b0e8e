//! Descriptors of every kind for copies, each with a thread that feeds it or collects from it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, SeekFrom, fcntl_getfl, fcntl_setfl, memfd_create,
    mknodat, open, seek,
};
use rustix::pipe::{PipeFlags, pipe_with};

use super::bytes::{contents, position, read_to_end, write_all};
use super::{Scratch, pty};

/// The kinds of descriptors that an end of a copy can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Unix,
    Pipe,
    Fifo,
    File,
    Memfd,
    Terminal,
    /// A destination that discards its bytes.
    Null,
}

pub(crate) const SOURCES: [Kind; 7] = [
    Kind::Tcp,
    Kind::Unix,
    Kind::Pipe,
    Kind::Fifo,
    Kind::File,
    Kind::Memfd,
    Kind::Terminal,
];

pub(crate) const DESTINATIONS: [Kind; 8] = [
    Kind::Tcp,
    Kind::Unix,
    Kind::Pipe,
    Kind::Fifo,
    Kind::File,
    Kind::Memfd,
    Kind::Terminal,
    Kind::Null,
];

/// The kinds that have another end.
pub(crate) const WIRES: [Kind; 5] = [
    Kind::Tcp,
    Kind::Unix,
    Kind::Pipe,
    Kind::Fifo,
    Kind::Terminal,
];

impl Kind {
    pub(crate) fn is_file(self) -> bool {
        matches!(self, Kind::File | Kind::Memfd)
    }
}

/// The bytes in a file before those of the test, so that positions are not 0.
const BEFORE: &[u8] = b"before";
pub(crate) const FILE_START: u64 = BEFORE.len() as u64;

/// A descriptor that yields given bytes and then ends.
pub(crate) struct Source {
    pub(crate) fd: OwnedFd,
    kind: Kind,
    feeder: Option<JoinHandle<()>>,
}

impl Source {
    pub(crate) fn new(kind: Kind, bytes: &'static [u8], blocking: bool, scratch: &Scratch) -> Self {
        let (fd, feeder) = match kind {
            Kind::File | Kind::Memfd => {
                let fd = file(kind, scratch);
                write_all(&fd, BEFORE);
                write_all(&fd, bytes);
                seek(&fd, SeekFrom::Start(FILE_START)).expect("a position");
                (fd, None)
            }
            _ => {
                let Wire { reader, writer } = Wire::new(kind, scratch);
                set_blocking(&reader, blocking);
                let master = master(kind, &reader);
                let feeder = thread::spawn(move || {
                    write_all(&writer, bytes);
                    if let Some(master) = master {
                        pty::drained(&master);
                    }
                    drop(writer);
                });
                (reader, Some(feeder))
            }
        };
        Self { fd, kind, feeder }
    }

    /// The bytes that can still be read, to the end.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let rest = read_to_end(&self.fd);
        if let Some(feeder) = self.feeder.take() {
            feeder.join().expect("everything could be written");
        }
        rest
    }

    pub(crate) fn position(&self) -> Option<u64> {
        self.kind.is_file().then(|| position(&self.fd))
    }
}

/// A descriptor that accepts bytes, and keeps them.
pub(crate) struct Destination {
    pub(crate) fd: OwnedFd,
    kind: Kind,
    /// The descriptor from which the bytes of a terminal are read.
    master: Option<OwnedFd>,
    collector: Option<JoinHandle<Vec<u8>>>,
}

impl Destination {
    pub(crate) fn new(kind: Kind, blocking: bool, scratch: &Scratch) -> Self {
        let (fd, master, collector) = match kind {
            Kind::File | Kind::Memfd => {
                let fd = file(kind, scratch);
                write_all(&fd, BEFORE);
                (fd, None, None)
            }
            Kind::Null => (open_null(), None, None),
            _ => {
                let Wire { reader, writer } = Wire::new(kind, scratch);
                set_blocking(&writer, blocking);
                let master = master(kind, &reader);
                let collector = thread::spawn(move || read_to_end(&reader));
                (writer, master, Some(collector))
            }
        };
        Self {
            fd,
            kind,
            master,
            collector,
        }
    }

    /// All bytes that have arrived; `None` when the destination discards them.
    pub(crate) fn arrived(self) -> Option<Vec<u8>> {
        let Self {
            fd,
            kind,
            master,
            collector,
        } = self;
        if kind.is_file() {
            let all = contents(&fd);
            assert_eq!(&all[..BEFORE.len()], BEFORE, "what stood before");
            return Some(all[BEFORE.len()..].to_vec());
        }
        if let Some(master) = master {
            pty::drained(&master);
        }
        drop(fd);
        collector.map(|collector| collector.join().expect("a collector"))
    }

    pub(crate) fn position(&self) -> Option<u64> {
        self.kind.is_file().then(|| position(&self.fd))
    }
}

/// Two descriptors: the first yields the bytes written to the second.
pub(crate) struct Wire {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
}

impl Wire {
    /// Both descriptors block.
    pub(crate) fn new(kind: Kind, scratch: &Scratch) -> Self {
        let (reader, writer) = match kind {
            Kind::Tcp => tcp(),
            Kind::Unix => {
                let (reader, writer) = UnixStream::pair().expect("a socket pair");
                (reader.into(), writer.into())
            }
            Kind::Pipe => pipe_with(PipeFlags::CLOEXEC).expect("a pipe"),
            Kind::Fifo => fifo(scratch),
            // The reader is the master, which sees an end of input when the terminal is closed.
            Kind::Terminal => pty::pair(),
            Kind::File | Kind::Memfd | Kind::Null => unreachable!("{kind:?} is no wire"),
        };
        Self { reader, writer }
    }

    /// Writes bytes from a thread, and then ends.
    pub(crate) fn fed(self, bytes: &'static [u8]) -> (OwnedFd, JoinHandle<()>) {
        let Self { reader, writer } = self;
        (reader, thread::spawn(move || write_all(&writer, bytes)))
    }

    /// A pair with a non-blocking writer, to which a file is copied.
    pub(crate) fn to_fill(kind: Kind, scratch: &Scratch) -> Self {
        let wire = Self::new(kind, scratch);
        set_blocking(&wire.writer, false);
        wire
    }
}

/// A duplicate of the master of a wire that is a terminal.
fn master(kind: Kind, reader: &OwnedFd) -> Option<OwnedFd> {
    (kind == Kind::Terminal).then(|| reader.try_clone().expect("a duplicate"))
}

pub(crate) fn tcp() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (inner, _) = listener.accept().expect("an accepted connection");
    (inner.into(), outer.into())
}

fn fifo(scratch: &Scratch) -> (OwnedFd, OwnedFd) {
    let path = scratch.path();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    let open = |flags| open(&path, flags | OFlags::CLOEXEC, Mode::empty()).expect("a FIFO");
    // Opening the FIFO for reading and writing keeps the other two openings from waiting.
    let keeper = open(OFlags::RDWR);
    let ends = (open(OFlags::RDONLY), open(OFlags::WRONLY));
    drop(keeper);
    ends
}

fn file(kind: Kind, scratch: &Scratch) -> OwnedFd {
    if kind == Kind::Memfd {
        memfd_create("fdsplice", MemfdFlags::CLOEXEC).expect("a memfd")
    } else {
        scratch.file().into()
    }
}

pub(crate) fn open_null() -> OwnedFd {
    device("/dev/null")
}

pub(crate) fn device(path: &str) -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a device")
        .into()
}

pub(crate) fn set_blocking(fd: impl AsFd, blocking: bool) {
    let flags = fcntl_getfl(&fd).expect("flags");
    fcntl_setfl(
        &fd,
        if blocking {
            flags - OFlags::NONBLOCK
        } else {
            flags | OFlags::NONBLOCK
        },
    )
    .expect("flags");
}
