//! The count and the hash of the bytes of one command.

use sha2::{Digest, Sha256};

/// Counts and hashes the bytes of one command.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    hash: Sha256,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    pub(crate) fn sha256(self) -> String {
        hex(&self.hash.finalize())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    rest.is_empty().then_some(())?;
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Tally, hex, unhex};

    #[test]
    fn hexadecimal_is_encoded_and_decoded() {
        assert_eq!(unhex("00ff7A"), Some(vec![0, 255, 0x7a]));
        assert_eq!(hex(&[0, 255, 0x7a]), "00ff7a");
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }

    #[test]
    fn the_hash_is_sha_256() {
        let mut tally = Tally::default();
        tally.add(b"ab");
        tally.add(b"c");
        assert_eq!(tally.bytes, 3);
        assert_eq!(
            tally.sha256(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
