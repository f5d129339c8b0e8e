//! Files opened by path to be sent, on the threads that Node has for file calls.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fdsplice::{Endpoint, EndpointError, PreopenedFile};
use napi::Task;
use napi::bindgen_prelude::{AsyncTask, Buffer, Either, Env, Error, Result};
use napi_derive::napi;

use crate::convert::integer;
use crate::numbers::with_descriptor;
use crate::outcome::{Refusal, refusal};
use crate::registry;

/// Opened files by the numbers that JavaScript gave them.
#[derive(Clone, Default)]
pub(crate) struct Files(Arc<Mutex<HashMap<u32, PreopenedFile>>>);

impl Files {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u32, PreopenedFile>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take(&self, file: u32) -> Result<PreopenedFile> {
        self.with(|files| files.remove(&file))
            .ok_or_else(|| Error::from_reason("this file was already given to a transfer"))
    }
}

/// The files of one JavaScript thread that were opened to be sent.
///
/// A file has no object of its own, because each one would have to be finalized. No method borrows
/// mutably, because an opening in progress borrows the object until it ends.
#[napi]
#[derive(Default)]
pub struct NativeFiles {
    pub(crate) files: Files,
}

#[napi]
impl NativeFiles {
    /// One per JavaScript thread.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a regular file to send its bytes from `start` to `end` inclusive. Resolves with its size
    /// and its descriptor. With `readAhead`, a small range is read at once; the file is then closed
    /// again and the descriptor is -1.
    ///
    /// The number `file` identifies it until it is given to a transfer, sent or released.
    #[napi(ts_return_type = "Promise<[size: number, fd: number] | Refusal>")]
    pub fn open(
        &self,
        file: u32,
        path: String,
        start: f64,
        end: Option<f64>,
        read_ahead: bool,
    ) -> AsyncTask<Opening> {
        AsyncTask::new(Opening {
            files: self.files.clone(),
            file,
            path: PathBuf::from(path),
            start: integer(start),
            last: end.map(integer),
            read_ahead,
        })
    }

    /// A copy of the bytes that were read when the file was opened and are not sent yet.
    #[napi]
    pub fn unsent(&self, file: u32) -> Option<Buffer> {
        self.files
            .with(|files| Some(Buffer::from(files.get(&file)?.unsent()?)))
    }

    /// Sends the bytes that were read when the file was opened, as far as the socket accepts them
    /// without waiting. Returns whether all of them were sent, which counts as an ended transfer.
    /// Otherwise a transfer has to send the rest.
    #[napi]
    pub fn send_now(&self, file: u32, socket: i32) -> bool {
        self.files.with(|files| {
            let Some(opened) = files.get_mut(&file) else {
                return false;
            };
            let bytes = opened.unsent().map_or(0, <[u8]>::len);
            let all = with_descriptor(socket, |socket| opened.send_now(socket)) == Some(true);
            if all {
                files.remove(&file);
                registry::sent_at_once(bytes as u64);
            }
            all
        })
    }

    /// Drops bytes that were read when the file was opened, so that at most `length` of them are left.
    #[napi]
    pub fn shorten(&self, file: u32, length: f64) {
        self.files.with(|files| {
            if let Some(opened) = files.get_mut(&file) {
                opened.shorten(integer(length));
            }
        });
    }

    /// Closes a file that no transfer has taken.
    #[napi]
    pub fn release(&self, file: u32) {
        self.files.with(|files| files.remove(&file));
    }
}

/// The opening of a file, a task of libuv's thread pool.
pub struct Opening {
    files: Files,
    file: u32,
    path: PathBuf,
    start: u64,
    last: Option<u64>,
    read_ahead: bool,
}

impl Task for Opening {
    type Output = std::result::Result<PreopenedFile, EndpointError>;
    type JsValue = Either<Vec<f64>, Refusal>;

    fn compute(&mut self) -> Result<Self::Output> {
        Ok(PreopenedFile::open(
            &self.path,
            self.start,
            self.last,
            self.read_ahead,
        ))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    fn resolve(&mut self, _env: Env, output: Self::Output) -> Result<Self::JsValue> {
        Ok(match output {
            Ok(opened) => {
                let fd = opened.endpoint().map_or(-1, Endpoint::as_raw_fd);
                let opening = vec![opened.size() as f64, f64::from(fd)];
                self.files.with(|files| files.insert(self.file, opened));
                Either::A(opening)
            }
            Err(error) => Either::B(refusal(error)),
        })
    }
}
