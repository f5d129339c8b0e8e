//! The commands that the driver sends.

use serde::Deserialize;
use serde_json::Value;

/// One line of input.
pub(crate) struct Request {
    /// Chosen by the driver; the answer carries it.
    pub(crate) id: u64,
    /// The command, or the reason why the line is not one.
    pub(crate) command: Result<Command, String>,
}

/// A command.
#[derive(Debug, Deserialize)]
#[serde(
    tag = "op",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum Command {
    /// Opens a listening socket: TCP (`host`, `port`, 0 for any) or Unix (`path`).
    Listen {
        host: Option<String>,
        port: Option<u16>,
        path: Option<String>,
        /// How many connections may wait; 0 has room for one.
        backlog: Option<u16>,
        #[serde(default)]
        tuning: Tuning,
    },
    /// Accepts the next connection of a listener.
    Accept {
        listener: u64,
        #[serde(default)]
        tuning: Tuning,
    },
    /// Closes a listener; pending accepts fail.
    CloseListener { listener: u64 },
    /// Opens a connection.
    Connect {
        host: Option<String>,
        port: Option<u16>,
        path: Option<String>,
        #[serde(default)]
        tuning: Tuning,
    },
    /// Sends the next `bytes` bytes of the stream of `seed`.
    Write {
        conn: u64,
        bytes: u64,
        seed: u64,
        #[serde(default)]
        pace: Pace,
    },
    /// Sends the bytes that `data` has in hexadecimal.
    WriteHex { conn: u64, data: String },
    /// Sends one byte out of band, after the writes before it.
    Oob { conn: u64, byte: u8 },
    /// Shuts down directions: `write` and `both` after the writes before it, `read` at once.
    Shutdown {
        conn: u64,
        #[serde(rename = "how")]
        directions: Directions,
    },
    /// Reads exactly `bytes` bytes.
    Read {
        conn: u64,
        bytes: u64,
        #[serde(default)]
        pace: Pace,
    },
    /// Reads until the end of input or a failure; the answer names which.
    ReadToEnd {
        conn: u64,
        #[serde(default)]
        pace: Pace,
    },
    /// Pauses the reading thread, after the reads before it.
    Pause { conn: u64, ms: u64 },
    /// Sets `SO_RCVBUF` at once.
    SetRcvBuf { conn: u64, bytes: usize },
    /// How many bytes have been sent and received so far.
    Counts { conn: u64 },
    /// Resets the connection at once (TCP). Pending commands fail with `ECANCELED`.
    Reset { conn: u64 },
    /// Closes the connection at once. Pending commands fail with `ECANCELED`.
    Close { conn: u64 },
    /// Returns the SHA-256 of the first `bytes` bytes of the stream of `seed`.
    Hash { seed: u64, bytes: u64 },
}

/// Socket options. Those that must be set before connecting or listening are set then.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tuning {
    pub(crate) rcvbuf: Option<usize>,
    pub(crate) sndbuf: Option<usize>,
    pub(crate) nodelay: Option<bool>,
}

/// The size of single calls, and the random pause before each.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Pace {
    pub(crate) chunk: Option<Chunk>,
    /// The longest pause in milliseconds.
    pub(crate) pause_ms: u64,
}

/// The size of a single call in bytes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Chunk {
    Fixed(usize),
    Random { min: usize, max: usize },
}

/// The directions of a shutdown.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Directions {
    Read,
    Write,
    Both,
}

/// The largest single call in bytes.
pub(crate) const MAX_CHUNK: usize = 16 << 20;

/// Parses one line. A line without an id cannot be answered, so its error goes to the caller.
pub(crate) fn parse(line: &str) -> Result<Request, String> {
    let mut value: Value =
        serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let id = value
        .as_object_mut()
        .and_then(|object| object.remove("id"))
        .and_then(|id| id.as_u64())
        .ok_or_else(|| format!("a command without an id: {line}"))?;
    let command = serde_json::from_value(value).map_err(|error| error.to_string());
    Ok(Request { id, command })
}

impl Pace {
    /// The smallest and the largest chunk.
    pub(crate) fn range(self) -> Result<(usize, usize), String> {
        let (min, max) = match self.chunk {
            None => (256 << 10, 256 << 10),
            Some(Chunk::Fixed(size)) => (size, size),
            Some(Chunk::Random { min, max }) => (min, max),
        };
        if min == 0 || min > max || max > MAX_CHUNK {
            return Err(format!(
                "chunk sizes must satisfy 1 <= min <= max <= {MAX_CHUNK}"
            ));
        }
        Ok((min, max))
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};

    #[test]
    fn an_unknown_option_is_reported_under_its_id() {
        let request = parse(r#"{"id":3,"op":"counts","conn":1,"extra":true}"#).expect("has an id");
        assert_eq!(request.id, 3);
        assert!(
            request
                .command
                .is_err_and(|message| message.contains("extra"))
        );
    }

    #[test]
    fn a_line_without_an_id_is_refused() {
        assert!(parse(r#"{"op":"counts","conn":1}"#).is_err());
        assert!(parse("nonsense").is_err());
    }

    #[test]
    fn chunks_are_a_size_or_a_range() {
        let pace = |chunk: &str| {
            let line = format!(
                r#"{{"id":1,"op":"write","conn":1,"bytes":9,"seed":1,"pace":{{"chunk":{chunk}}}}}"#
            );
            match parse(&line)
                .expect("has an id")
                .command
                .expect("is a command")
            {
                Command::Write { pace, .. } => pace.range(),
                other => panic!("parsed as {other:?}"),
            }
        };
        assert_eq!(pace("7"), Ok((7, 7)));
        assert_eq!(pace(r#"{"min":1,"max":9}"#), Ok((1, 9)));
        assert!(pace("0").is_err());
        assert!(pace(r#"{"min":9,"max":1}"#).is_err());
    }
}
