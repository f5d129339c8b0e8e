//! The first bytes of a connection: the client's request to the origin.

use std::io;

/// Length of an encoded request.
pub(crate) const LENGTH: usize = 16;

const MAGIC: [u8; 7] = *b"FDSLOAD";

/// The purpose of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Messages of `size` bytes; the origin sends each one back when it is complete.
    Echo { size: u64 },
    /// One message of `size` bytes, which begins with the request; the origin sends it back.
    Exchange { size: u64 },
    /// An exchange that the client ends with a reset. `run` is the number of the run that counts it.
    Reset { size: u32, run: u32 },
    /// The origin answers once no `Reset` of this run is open, with the number of those that it has served.
    Settled { run: u32 },
    /// The client sends; the origin answers with the number of bytes.
    Sink,
    /// The origin sends `bytes` bytes.
    Source { bytes: u64 },
    /// `Sink` and `Source` at the same time.
    Both { bytes: u64 },
}

impl Request {
    pub(crate) fn encode(self) -> [u8; LENGTH] {
        let (kind, argument) = match self {
            Self::Echo { size } => (b'e', size),
            Self::Exchange { size } => (b'x', size),
            Self::Reset { size, run } => (b'r', u64::from(run) << 32 | u64::from(size)),
            Self::Settled { run } => (b'w', u64::from(run) << 32),
            Self::Sink => (b'k', 0),
            Self::Source { bytes } => (b's', bytes),
            Self::Both { bytes } => (b'b', bytes),
        };
        let mut encoded = [0; LENGTH];
        encoded[..7].copy_from_slice(&MAGIC);
        encoded[7] = kind;
        encoded[8..].copy_from_slice(&argument.to_le_bytes());
        encoded
    }

    pub(crate) fn decode(encoded: [u8; LENGTH]) -> io::Result<Self> {
        let [m0, m1, m2, m3, m4, m5, m6, kind, argument @ ..] = encoded;
        let [s0, s1, s2, s3, r0, r1, r2, r3] = argument;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let run = u32::from_le_bytes([r0, r1, r2, r3]);
        let argument = u64::from_le_bytes(argument);
        match ([m0, m1, m2, m3, m4, m5, m6], kind) {
            (MAGIC, b'e') => Ok(Self::Echo { size: argument }),
            (MAGIC, b'x') => Ok(Self::Exchange { size: argument }),
            (MAGIC, b'r') => Ok(Self::Reset { size, run }),
            (MAGIC, b'w') => Ok(Self::Settled { run }),
            (MAGIC, b'k') => Ok(Self::Sink),
            (MAGIC, b's') => Ok(Self::Source { bytes: argument }),
            (MAGIC, b'b') => Ok(Self::Both { bytes: argument }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the connection does not begin with a request",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        for request in [
            Request::Echo { size: 64 },
            Request::Exchange { size: u64::MAX },
            Request::Reset {
                size: 100,
                run: u32::MAX,
            },
            Request::Settled { run: 7 },
            Request::Sink,
            Request::Source { bytes: 1 << 40 },
            Request::Both { bytes: 0 },
        ] {
            assert_eq!(Request::decode(request.encode()).unwrap(), request);
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert!(Request::decode(*b"GET / HTTP/1.1\r\n").is_err());
        let mut unknown = Request::Sink.encode();
        unknown[7] = b'?';
        assert!(Request::decode(unknown).is_err());
    }
}
