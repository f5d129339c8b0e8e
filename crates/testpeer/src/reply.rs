//! The answers to commands, one line of JSON each.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::tally::Tally;

/// The fields of a successful answer, or a failure.
pub(crate) type Reply = Result<Value, Failure>;

/// The cause of a failed command, and its progress until then.
pub(crate) struct Failure {
    code: String,
    /// Byte count and hash of the part that succeeded.
    done: Option<(u64, String)>,
}

impl Failure {
    pub(crate) fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            done: None,
        }
    }

    pub(crate) fn after(errno: Errno, done: Tally) -> Self {
        Self {
            code: errno_name(errno),
            done: Some((done.bytes, done.sha256())),
        }
    }

    /// The other side ended before all bytes had arrived.
    pub(crate) fn early_end(done: Tally) -> Self {
        Self {
            code: "EOF".into(),
            done: Some((done.bytes, done.sha256())),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::new(errno_name(errno))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or_else(|| Self::new(error.to_string()), Self::from)
    }
}

/// The symbolic name of an error of a socket call.
pub(crate) fn errno_name(errno: Errno) -> String {
    match errno {
        Errno::ACCESS => "EACCES",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::AGAIN => "EAGAIN",
        Errno::BADF => "EBADF",
        Errno::CANCELED => "ECANCELED",
        Errno::CONNABORTED => "ECONNABORTED",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::INVAL => "EINVAL",
        Errno::MFILE => "EMFILE",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NOENT => "ENOENT",
        Errno::NOTCONN => "ENOTCONN",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::PIPE => "EPIPE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        other => return format!("E{}", other.raw_os_error()),
    }
    .into()
}

/// Writes the answers of all threads.
#[derive(Clone, Default)]
pub(crate) struct Replies(Arc<Mutex<()>>);

impl Replies {
    pub(crate) fn send(&self, id: u64, reply: Reply) {
        let mut line = match reply {
            Ok(mut fields) => {
                fields["ok"] = true.into();
                fields
            }
            Err(Failure { code, done: None }) => json!({ "error": code }),
            Err(Failure {
                code,
                done: Some((bytes, sha256)),
            }) => {
                json!({ "error": code, "bytes": bytes, "sha256": sha256 })
            }
        };
        line["id"] = id.into();
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The driver has ended, so this process ends too.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            std::process::exit(0);
        }
        drop(guard);
    }
}
