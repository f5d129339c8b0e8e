//! Answers: one line of JSON each.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::tally::Tally;

/// The fields of a successful answer, or why there is none.
pub(crate) type Reply = Result<Value, Failure>;

/// Why a command failed, and how far it came.
pub(crate) struct Failure {
    code: String,
    /// Bytes and hash of the part that succeeded.
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

    /// The other side ended before all bytes had come.
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

/// The symbolic name of an error a socket can give.
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

/// Writes answers; shared by all threads.
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
        // A driver that no longer listens has ended: so does its peer.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            std::process::exit(0);
        }
        drop(guard);
    }
}
