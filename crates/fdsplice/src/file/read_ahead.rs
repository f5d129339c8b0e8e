//! A file that was opened to be sent, the bytes of a small one already read.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use tracing::Instrument;

use crate::copy;
use crate::direction::plan::Plan;
use crate::error::{EndpointError, Side, TransferError};
use crate::fd::{Endpoint, Kind, socket_kind};
use crate::send_file::{SendFileOptions, send_file};
use crate::traffic::TrafficResult;

/// Bytes of a file that are read when it is opened. Up to here, one more trip to a thread that may
/// wait for a disk costs more than a copy through user space.
const SMALL: u64 = 64 * 1024;

/// A regular file, opened to send the part of it that is there at that moment.
///
/// A small part is read at once, and the file is closed again: [`PreopenedFile::send_now`] can then
/// send it from a thread that must not block.
#[derive(Debug)]
pub struct PreopenedFile {
    size: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Open(Endpoint),
    Read { bytes: Vec<u8>, sent: usize },
}

impl PreopenedFile {
    /// Opens a file, of which the bytes from `start` to `last` inclusive are to be sent; they are
    /// read here if they are few and `read_ahead` is set. Blocks, as any call on a path may.
    ///
    /// # Errors
    /// [`EndpointError::System`], and [`EndpointError::Unsupported`] for what is no regular file.
    pub fn open(
        path: &Path,
        start: u64,
        last: Option<u64>,
        read_ahead: bool,
    ) -> Result<Self, EndpointError> {
        // Without O_NONBLOCK, opening a FIFO would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| open(path, flags, Mode::empty())).map_err(failed("open"))?;
        let found = fstat(&fd).map_err(failed("fstat"))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(EndpointError::Unsupported("not a regular file"));
        }
        let size = u64::try_from(found.st_size).unwrap_or(0);
        let end = last.map_or(size, |last| size.min(last.saturating_add(1)));
        let wanted = end.saturating_sub(start);
        // Files of procfs say that they are empty.
        if read_ahead
            && size > 0
            && wanted <= SMALL
            && let Some(bytes) = read_all(&fd, start, wanted).map_err(failed("read"))?
        {
            let content = Content::Read { bytes, sent: 0 };
            return Ok(Self { size, content });
        }
        let content = Content::Open(Endpoint::try_from(fd)?);
        Ok(Self { size, content })
    }

    /// Bytes that the file had when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file; none where what is wanted of it was read.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match &self.content {
            Content::Open(endpoint) => Some(endpoint),
            Content::Read { .. } => None,
        }
    }

    /// What was read and not sent yet; none of a file that is open.
    pub fn unsent(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Open(_) => None,
            Content::Read { bytes, sent } => Some(&bytes[*sent..]),
        }
    }

    /// Sends what was read as far as a socket takes it without waiting, and tells whether that was
    /// all of it. A failure is met again by who sends the rest.
    pub fn send_now(&mut self, socket: impl AsFd) -> bool {
        let Content::Read { bytes, sent } = &mut self.content else {
            return false;
        };
        while *sent < bytes.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match retry_on_intr(|| send(&socket, &bytes[*sent..], flags)) {
                Ok(accepted) => *sent += accepted,
                Err(_) => return false,
            }
        }
        let span = tracing::debug_span!("send_file",
            destination = ?socket_kind(&socket).unwrap_or(Kind::UnixStream));
        span.in_scope(|| {
            tracing::debug!(tx = *sent, zero_copy = 0, error = ?None::<TransferError>, "ended");
        });
        true
    }

    /// Sends the file, or what [`PreopenedFile::send_now`] has left of it, whose bytes count here. The
    /// options are to ask for no other part than was opened.
    ///
    /// # Errors
    /// As [`send_file`]; of one that was read no change can be met any more.
    ///
    /// # Cancel safety
    /// As [`send_file`].
    ///
    /// # Panics
    /// Outside a tokio runtime that has I/O and time enabled.
    pub async fn send(self, destination: Endpoint, options: SendFileOptions) -> TrafficResult {
        let (mut bytes, sent) = match self.content {
            Content::Open(file) => return send_file(file, destination, options).await,
            Content::Read { bytes, sent } => (bytes, sent),
        };
        let (plan, bounds, control) = options.into_parts();
        control.tx().add(sent, false);
        let nothing = match nothing() {
            Ok(nothing) => nothing,
            Err(errno) => {
                return control.result(Some(TransferError::system(
                    errno,
                    "socketpair",
                    Side::Source,
                )));
            }
        };
        let plan = Plan {
            head: bytes.split_off(sent),
            pass_end_on: plan.pass_end_on,
            ..Plan::default()
        };
        let span = tracing::debug_span!("send_file", destination = ?destination.kind());
        async move {
            let result = copy::run(nothing, destination, plan, bounds, control).await;
            tracing::debug!(tx = result.tx, zero_copy = result.zero_copy, error = ?result.error, "ended");
            result
        }
        .instrument(span)
        .await
    }
}

/// All the bytes of a range; none where the file has ended before.
fn read_all(file: &OwnedFd, start: u64, wanted: u64) -> Result<Option<Vec<u8>>, Errno> {
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
    let mut read = 0;
    while read < bytes.len() {
        match retry_on_intr(|| pread(file, &mut bytes[read..], start + read as u64))? {
            0 => return Ok(None),
            got => read += got,
        }
    }
    Ok(Some(bytes))
}

/// A source that has ended. Not a pipe: the user has a quota of those.
fn nothing() -> Result<Endpoint, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (reader, _) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Endpoint::try_from(reader).map_err(|error| match error {
        EndpointError::System { errno, .. } => errno,
        _ => Errno::INVAL,
    })
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> EndpointError {
    move |errno| EndpointError::System { errno, syscall }
}
