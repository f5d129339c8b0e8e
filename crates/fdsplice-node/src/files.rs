//! Files by path, opened on Node's threads for files.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fdsplice::{Endpoint, EndpointError, PreopenedFile};
use napi::Task;
use napi::bindgen_prelude::{AsyncTask, Buffer, Either, Env, Error, Result};
use napi_derive::napi;

use crate::convert::{Refusal, refusal, whole};
use crate::numbers::with_descriptor;
use crate::registry;

/// By the numbers that JavaScript gave them.
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
/// They have no objects of their own, which would be garbage to finalize for each of them. Nothing
/// here borrows mutably: an opening that is under way borrows for as long as it takes.
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

    /// Opens a regular file of which the bytes from `start` to `end` inclusive are to be sent, and
    /// tells how many bytes it has, and its descriptor. Where these bytes are few and `readAhead`
    /// has them read at once, it is closed again, and the descriptor is -1.
    ///
    /// It goes by the number `file` until it is given to a transfer, sent, or released.
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
            start: whole(start),
            last: end.map(whole),
            read_ahead,
        })
    }

    /// A copy of what was read when the file was opened, and not sent since.
    #[napi]
    pub fn unsent(&self, file: u32) -> Option<Buffer> {
        self.files
            .with(|files| Some(Buffer::from(files.get(&file)?.unsent()?)))
    }

    /// Sends what was read when the file was opened as far as the socket takes it without waiting,
    /// and tells whether that was all. If so, a transfer has ended; if not, one is to send the rest.
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

    /// Closes a file that no transfer has taken.
    #[napi]
    pub fn release(&self, file: u32) {
        self.files.with(|files| files.remove(&file));
    }
}

/// The opening of a file.
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
                let told = vec![opened.size() as f64, f64::from(fd)];
                self.files.with(|files| files.insert(self.file, opened));
                Either::A(told)
            }
            Err(error) => Either::B(refusal(error)),
        })
    }
}
