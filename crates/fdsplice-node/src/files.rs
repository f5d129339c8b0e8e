//! Files opened by path to be sent or copied, on the threads that the core has for calls that may block. A call
//! that hangs there occupies none of the threads that Node shares among all its file calls, and the
//! process can exit without it.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fdsplice::{
    BackgroundCall, Control, CopyPaths, CopyRange, Endpoint, EndpointError, OpenedPaths, PathError,
    PreopenedFile, Side,
};
use napi::Status;
use napi::bindgen_prelude::{Buffer, Error, FnArgs, Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

use crate::convert::integer;
use crate::native_end::NativeEnd;
use crate::numbers::with_descriptor;
use crate::outcome::{Refusal, refusal};
use crate::registry;

/// Opened files on the wire: three numbers for each, which are its number, its size and its
/// descriptor, and one refusal for each whose size is -1, in the same order.
type Batch = FnArgs<(Vec<f64>, Vec<Refusal>)>;

/// A weak function, which does not keep the event loop alive. The TypeScript side keeps it alive
/// while files are opened.
type Deliver = ThreadsafeFunction<(), (), Batch, Status, false, true>;

/// A file that JavaScript can refer to.
enum File {
    Opening(BackgroundCall),
    /// Files of a copy that are being opened, and the handle to stop that.
    OpeningPaths(BackgroundCall, Control),
    Open(PreopenedFile),
    /// The opened files of a copy.
    Paths(Option<Endpoint>, Option<Endpoint>),
}

/// The third number of a result for the files of a copy.
const COPIED_BY_BUFFER: i32 = 0;
const COPIED_IN_KERNEL: i32 = 1;
const OPENED: i32 = 2;

/// The paths of a copy.
#[napi(object)]
pub struct PathSpec {
    /// The path of the source.
    pub source: Option<String>,
    /// The path of the destination.
    pub destination: Option<String>,
    /// Whether the destination keeps its contents.
    pub keep_contents: bool,
    /// Whether a small file may be copied when it is opened.
    pub copy_if_small: bool,
    /// First byte to read.
    pub start: Option<f64>,
    /// First byte to write.
    pub position: Option<f64>,
    /// At most this many bytes.
    pub length: Option<f64>,
    /// `false`: through a private buffer.
    pub zero_copy: bool,
}

impl PathSpec {
    fn paths(self, source: Option<&NativeEnd>, control: &Control) -> CopyPaths {
        let mut paths = CopyPaths::new()
            .keep_contents(self.keep_contents)
            .control(control.clone());
        if let Some(source) = source.and_then(NativeEnd::endpoint) {
            paths = paths.reads_from(source);
        }
        if let Some(path) = self.source {
            paths = paths.source(path);
        }
        if let Some(path) = self.destination {
            paths = paths.destination(path);
        }
        if self.copy_if_small {
            paths = paths.copy_if_small(CopyRange {
                start: self.start.map_or(0, integer),
                position: self.position.map_or(0, integer),
                length: self.length.map(integer),
                copy_only: !self.zero_copy,
            });
        }
        paths
    }
}

/// Files by the numbers that JavaScript gave them.
#[derive(Clone, Default)]
pub(crate) struct Files(Arc<Mutex<HashMap<u32, File>>>);

impl Files {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u32, File>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take(&self, file: u32) -> Result<PreopenedFile> {
        match self.with(|files| files.remove(&file)) {
            Some(File::Open(file)) => Ok(file),
            _ => Err(Error::from_reason(
                "this file was already given to a transfer",
            )),
        }
    }

    /// Starts the opening of a file. `open` gets the function that takes the result.
    fn begin(
        &self,
        file: u32,
        open: impl FnOnce() -> std::result::Result<File, EndpointError>,
    ) -> Option<Refusal> {
        // The lock keeps the result from arriving before the file is known.
        self.with(|files| match open() {
            Ok(opening) => {
                files.insert(file, opening);
                None
            }
            Err(error) => Some(refusal(error)),
        })
    }
}

/// The result of the opening of a file.
struct Opened {
    file: u32,
    size: f64,
    fd: i32,
    refusal: Option<Refusal>,
}

/// Results on their way to JavaScript. The first one wakes the event loop, which then takes all that
/// wait.
struct Results {
    waiting: Arc<Mutex<Vec<Opened>>>,
    deliver: Deliver,
}

impl Results {
    fn new(opened: &Function<Batch, ()>) -> Result<Self> {
        let waiting: Arc<Mutex<Vec<Opened>>> = Arc::default();
        let queue = Arc::clone(&waiting);
        let deliver = opened
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build_callback(move |_| {
                let results =
                    std::mem::take(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner));
                let mut numbers = Vec::with_capacity(results.len() * 3);
                let mut refusals = Vec::new();
                for result in results {
                    numbers.extend([f64::from(result.file), result.size, f64::from(result.fd)]);
                    refusals.extend(result.refusal);
                }
                Ok((numbers, refusals).into())
            })?;
        Ok(Self { waiting, deliver })
    }

    fn push(&self, result: Opened) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(result);
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            // This fails when the environment has ended; then nothing waits for the result.
            self.deliver
                .call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// Takes the result of one opening.
struct Reply {
    files: Files,
    results: Arc<Results>,
    file: u32,
}

impl Reply {
    fn opened(self, opened: std::result::Result<PreopenedFile, EndpointError>) {
        let found = opened.map(|file| {
            let fd = file.endpoint().map_or(-1, Endpoint::as_raw_fd);
            (file.size(), fd, Some(File::Open(file)))
        });
        self.send(found.map_err(refusal));
    }

    fn sized(self, size: std::result::Result<u64, EndpointError>) {
        self.send(size.map(|size| (size, -1, None)).map_err(refusal));
    }

    fn opened_paths(self, opened: std::result::Result<OpenedPaths, PathError>) {
        let found = match opened {
            Ok(OpenedPaths::Copied { bytes, zero_copy }) => {
                registry::ended_at_once(bytes, zero_copy);
                let by = if zero_copy {
                    COPIED_IN_KERNEL
                } else {
                    COPIED_BY_BUFFER
                };
                Ok((bytes, by, None))
            }
            Ok(OpenedPaths::Open {
                source,
                destination,
            }) => Ok((0, OPENED, Some(File::Paths(source, destination)))),
            Ok(_) => Err(refusal(EndpointError::System {
                errno: rustix::io::Errno::IO,
                syscall: "open",
            })),
            Err(PathError { side, error, .. }) => Err(Refusal {
                side: Some(side.as_str().to_owned()),
                ..refusal(error)
            }),
        };
        self.send(found);
    }

    /// Passes the result on, unless JavaScript no longer waits for it.
    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    fn send(self, found: std::result::Result<(u64, i32, Option<File>), Refusal>) {
        let (size, fd, file, refusal) = match found {
            Ok((size, fd, file)) => (size as f64, fd, file, None),
            Err(refusal) => (-1.0, -1, None, Some(refusal)),
        };
        let is_wanted = self.files.with(|files| {
            let Some(File::Opening(call) | File::OpeningPaths(call, _)) = files.remove(&self.file)
            else {
                // JavaScript has released it meanwhile.
                return false;
            };
            call.detach();
            if let Some(file) = file {
                files.insert(self.file, file);
            }
            true
        });
        if is_wanted {
            let file = self.file;
            self.results.push(Opened {
                file,
                size,
                fd,
                refusal,
            });
        }
    }
}

/// The files of one JavaScript thread that were opened to be sent.
///
/// A file has no object of its own, because each one would have to be finalized.
#[napi]
pub struct NativeFiles {
    pub(crate) files: Files,
    results: Arc<Results>,
}

#[napi]
impl NativeFiles {
    /// One per JavaScript thread. `opened` is called with a batch of results.
    ///
    /// # Errors
    /// When Node is shutting this environment down.
    #[napi(constructor)]
    #[allow(
        clippy::needless_pass_by_value,
        clippy::type_complexity,
        reason = "napi passes owned arguments, and generates the TypeScript types from this signature"
    )]
    pub fn new(opened: Function<FnArgs<(Vec<f64>, Vec<Refusal>)>, ()>) -> Result<Self> {
        Ok(Self {
            files: Files::default(),
            results: Arc::new(Results::new(&opened)?),
        })
    }

    /// Opens a regular file to send its bytes from `start` to `end` inclusive. Its size and its
    /// descriptor are delivered later. With `readAhead`, a small range is read at once; the file is
    /// then closed again and the descriptor is -1. Returns a refusal if the opening cannot be started.
    ///
    /// The number `file` identifies it until it is given to a transfer, sent or released.
    #[napi]
    pub fn open(
        &self,
        file: u32,
        path: String,
        start: f64,
        end: Option<f64>,
        read_ahead: bool,
    ) -> Option<Refusal> {
        let reply = self.reply(file);
        self.files.begin(file, || {
            PreopenedFile::open_in_background(
                PathBuf::from(path),
                integer(start),
                end.map(integer),
                read_ahead,
                move |opened| reply.opened(opened),
            )
            .map(File::Opening)
        })
    }

    /// Queries the size of a file that the caller has opened. It is delivered as that of a file opened
    /// by its path, with the descriptor -1.
    #[napi]
    pub fn query_size(&self, file: u32, end: &NativeEnd) -> Option<Refusal> {
        let reply = self.reply(file);
        self.files.begin(file, || {
            let closed = EndpointError::System {
                errno: rustix::io::Errno::BADF,
                syscall: "fstat",
            };
            let endpoint = end.endpoint().ok_or(closed)?;
            endpoint
                .size_in_background(move |size| reply.sized(size))
                .map(File::Opening)
        })
    }

    /// Opens the ends of a copy that are paths: first the source, then the destination, which is created
    /// if it is missing. `source` is the other end, if that is a file that is open already. The result is
    /// three numbers as for [`NativeFiles::open`]. The third one is 2 if the files are open, for
    /// [`NativeFiles::take_source`] and [`NativeFiles::take_destination`]. Otherwise the file was small and
    /// is copied: the second number is its length, and the third one is 1 if the kernel has copied it.
    #[napi]
    pub fn open_paths(
        &self,
        file: u32,
        paths: PathSpec,
        source: Option<&NativeEnd>,
    ) -> Option<Refusal> {
        let reply = self.reply(file);
        self.files.begin(file, || {
            let control = Control::new();
            let paths = paths.paths(source, &control);
            let call = paths.open_in_background(move |opened| reply.opened_paths(opened))?;
            Ok(File::OpeningPaths(call, control))
        })
    }

    /// Stops the opening of the files of a copy: nothing more is opened, created, truncated or copied.
    #[napi]
    pub fn stop(&self, file: u32) {
        self.files.with(|files| {
            if let Some(File::OpeningPaths(_, control)) = files.get(&file) {
                control.abort();
            }
        });
    }

    /// The opened source of a copy.
    #[napi]
    pub fn take_source(&self, file: u32) -> Option<NativeEnd> {
        self.take_end(file, Side::Source)
    }

    /// The opened destination of a copy.
    #[napi]
    pub fn take_destination(&self, file: u32) -> Option<NativeEnd> {
        self.take_end(file, Side::Destination)
    }

    fn take_end(&self, file: u32, side: Side) -> Option<NativeEnd> {
        let end = self.files.with(|files| match files.get_mut(&file)? {
            File::Paths(source, _) if side == Side::Source => source.take(),
            File::Paths(_, destination) => destination.take(),
            _ => None,
        });
        end.map(NativeEnd::new)
    }

    fn reply(&self, file: u32) -> Reply {
        Reply {
            files: self.files.clone(),
            results: Arc::clone(&self.results),
            file,
        }
    }

    /// A copy of the bytes that were read when the file was opened and are not sent yet.
    #[napi]
    pub fn unsent(&self, file: u32) -> Option<Buffer> {
        self.files.with(|files| match files.get(&file)? {
            File::Open(file) => Some(Buffer::from(file.unsent()?)),
            _ => None,
        })
    }

    /// Sends the bytes that were read when the file was opened, as far as the socket accepts them
    /// without waiting. Returns whether all of them were sent, which counts as an ended transfer.
    /// Otherwise a transfer has to send the rest.
    #[napi]
    pub fn send_now(&self, file: u32, socket: i32) -> bool {
        self.files.with(|files| {
            let Some(File::Open(opened)) = files.get_mut(&file) else {
                return false;
            };
            let bytes = opened.unsent().map_or(0, <[u8]>::len);
            let all = with_descriptor(socket, |socket| opened.send_now(socket)) == Some(true);
            if all {
                files.remove(&file);
                registry::ended_at_once(bytes as u64, false);
            }
            all
        })
    }

    /// Drops bytes that were read when the file was opened, so that at most `length` of them are left.
    #[napi]
    pub fn shorten(&self, file: u32, length: f64) {
        self.files.with(|files| {
            if let Some(File::Open(opened)) = files.get_mut(&file) {
                opened.shorten(integer(length));
            }
        });
    }

    /// Closes a file that no transfer has taken. Its opening is given up if it has not returned.
    #[napi]
    pub fn release(&self, file: u32) {
        let removed = self.files.with(|files| files.remove(&file));
        if let Some(File::OpeningPaths(_, control)) = &removed {
            control.abort();
        }
        drop(removed);
    }
}
