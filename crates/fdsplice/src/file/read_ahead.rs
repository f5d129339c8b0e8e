//! A regular file that the core opens by its path. A small one is read at once, so that it can be
//! sent from a thread that must not block.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::net::{SendFlags, send};

use crate::error::{EndpointError, TransferError};
use crate::fd::{Endpoint, Kind, socket_kind, true_size_of};
use crate::file::by_path::require_regular;
use crate::file::range::{Remaining, true_size};
use crate::limits::memory::{self, Charge};
use crate::threads::{BackgroundCall, Lane};

/// Largest part that is read when the file is opened. Up to this size, one more trip to a thread
/// that may wait for a disk costs more than a copy through user space.
const SMALL: u64 = 64 * 1024;

/// A regular file, opened to send a part of it as it is at that moment.
///
/// A small part is read at once, and the file is closed again. [`PreopenedFile::send_now`] can then
/// send it from a thread that must not block.
#[derive(Debug)]
pub struct PreopenedFile {
    size: u64,
    content: Content,
}

/// The part of the file to send.
#[derive(Debug)]
pub(crate) enum Content {
    /// In the open file.
    Open(Endpoint),
    /// In memory, and how many bytes of it were sent. The bytes are charged to the budget of memory.
    Read {
        bytes: Vec<u8>,
        sent: usize,
        #[expect(dead_code, reason = "its drop releases the bytes")]
        charge: Charge,
    },
}

impl PreopenedFile {
    /// Opens a file to send its bytes from `start` to `last` inclusive. With `read_ahead`, a small
    /// range is read at once unless the memory budget is used up. May block, because it opens a path.
    ///
    /// # Errors
    /// [`EndpointError::System`], and [`EndpointError::Unsupported`] if it is not a regular file.
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
        require_regular(&found)?;
        let mut size = true_size_of(fd.as_fd(), &found);
        let wanted = Remaining::of_file(start, last, size);
        if read_ahead && !memory::is_used_up() && wanted.is_exact() && wanted.bytes() <= SMALL {
            match read_all(&fd, start, wanted.bytes()) {
                Ok(Some(bytes)) => {
                    let mut charge = Charge::default();
                    charge.set(bytes.len());
                    let content = Content::Read {
                        bytes,
                        sent: 0,
                        charge,
                    };
                    return Ok(Self { size, content });
                }
                // A file that ends early and keeps its size is of a file system that is not known here.
                Ok(None) => {
                    let now = true_size(fd.as_fd()).map_err(failed("fstat"))?;
                    size = if now < size { now } else { 0 };
                }
                // A file of FUSE has no bytes yet. The transfer waits for them.
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(failed("read")(errno)),
            }
        }
        let content = Content::Open(Endpoint::try_from(fd)?);
        Ok(Self { size, content })
    }

    /// As [`PreopenedFile::open`], on a thread of the core, from which `opened` is called with the
    /// result.
    ///
    /// # Errors
    /// [`EndpointError::System`] when no thread can be started. `opened` is then dropped.
    pub fn open_in_background(
        path: PathBuf,
        start: u64,
        last: Option<u64>,
        read_ahead: bool,
        opened: impl FnOnce(Result<Self, EndpointError>) + Send + 'static,
    ) -> Result<BackgroundCall, EndpointError> {
        let lane = Lane::of_path(&path);
        // A panic must not keep `opened` from being called.
        let open = move || {
            catch_unwind(|| Self::open(&path, start, last, read_ahead))
                .unwrap_or_else(|_| Err(failed("open")(Errno::IO)))
        };
        BackgroundCall::start(lane, open, opened).map_err(failed("clone"))
    }

    /// The size of the file in bytes when it was opened; 0 if it is not known, as in procfs and sysfs.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file. `None` if the wanted part was read, and the file closed.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match &self.content {
            Content::Open(endpoint) => Some(endpoint),
            Content::Read { .. } => None,
        }
    }

    /// The bytes that were read and not sent yet. `None` if the file is open.
    pub fn unsent(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Open(_) => None,
            Content::Read { bytes, sent, .. } => Some(&bytes[*sent..]),
        }
    }

    /// Drops read bytes, so that at most `length` of them are left. A file that is open is not changed.
    pub fn shorten(&mut self, length: u64) {
        if let Content::Read { bytes, .. } = &mut self.content {
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
    }

    /// Sends as many of the read bytes as a socket accepts without waiting, and returns whether
    /// these were all. A failure is not reported here: [`PreopenedFile::send`] fails for the same
    /// reason.
    pub fn send_now(&mut self, socket: impl AsFd) -> bool {
        let Content::Read { bytes, sent, .. } = &mut self.content else {
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

    pub(crate) fn into_content(self) -> Content {
        self.content
    }
}

/// Reads `length` bytes from `start`. `None` if the file ends before.
fn read_all(file: &OwnedFd, start: u64, length: u64) -> Result<Option<Vec<u8>>, Errno> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut read = 0;
    while read < bytes.len() {
        match retry_on_intr(|| pread(file, &mut bytes[read..], start + read as u64))? {
            0 => return Ok(None),
            got => read += got,
        }
    }
    Ok(Some(bytes))
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> EndpointError {
    move |errno| EndpointError::System { errno, syscall }
}
