//! Reproducible random data. Each seed has one endless stream of bytes, of which any position can be computed directly.

use std::collections::HashMap;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const WORD: usize = size_of::<u64>();

/// The finalizer of `SplitMix64`.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A position in the stream of one seed.
pub(crate) struct Stream {
    base: u64,
    position: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        // The seed is mixed, so that neighbouring seeds do not give overlapping streams.
        Self {
            base: mix(seed.wrapping_add(STEP)),
            position: 0,
        }
    }

    fn word(&self, index: u64) -> [u8; WORD] {
        mix(self
            .base
            .wrapping_add(index.wrapping_add(1).wrapping_mul(STEP)))
        .to_le_bytes()
    }

    /// Fills `buffer` with the next bytes.
    pub(crate) fn fill(&mut self, mut buffer: &mut [u8]) {
        let total = buffer.len() as u64;
        let mut index = self.position / WORD as u64;
        let skip = usize::try_from(self.position % WORD as u64).unwrap_or_default();
        if skip != 0 {
            let head = buffer.len().min(WORD - skip);
            buffer[..head].copy_from_slice(&self.word(index)[skip..skip + head]);
            buffer = &mut buffer[head..];
            index += 1;
        }
        let (words, tail) = buffer.as_chunks_mut::<WORD>();
        for word in words {
            *word = self.word(index);
            index += 1;
        }
        tail.copy_from_slice(&self.word(index)[..tail.len()]);
        self.position += total;
    }
}

/// The streams of one connection. Each write continues its stream where the last write stopped.
#[derive(Default)]
pub(crate) struct Streams(HashMap<u64, Stream>);

impl Streams {
    pub(crate) fn of(&mut self, seed: u64) -> &mut Stream {
        self.0.entry(seed).or_insert_with(|| Stream::new(seed))
    }
}

/// A source of random sizes and pauses.
pub(crate) struct Random(Stream);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Stream::new(!seed))
    }

    /// A number from `min` to `max`, both included.
    pub(crate) fn between(&mut self, min: u64, max: u64) -> u64 {
        let mut word = [0; WORD];
        self.0.fill(&mut word);
        min + u64::from_le_bytes(word) % (max - min + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Random, Stream};

    #[test]
    fn a_stream_is_the_same_in_chunks_of_any_size() {
        let mut whole = vec![0; 4096];
        Stream::new(5).fill(&mut whole);
        let mut random = Random::new(1);
        let mut cut = vec![0; 4096];
        let mut stream = Stream::new(5);
        let mut rest = cut.as_mut_slice();
        while !rest.is_empty() {
            let size = usize::try_from(random.between(0, 37))
                .expect("small")
                .min(rest.len());
            let (part, remaining) = rest.split_at_mut(size);
            stream.fill(part);
            rest = remaining;
        }
        assert_eq!(whole, cut);
    }

    #[test]
    fn seeds_give_different_streams() {
        let mut first = [0; 64];
        let mut second = [0; 64];
        Stream::new(1).fill(&mut first);
        Stream::new(2).fill(&mut second);
        assert_ne!(first, second);
        // The streams have no word in common, at any position.
        assert!(
            !first
                .chunks(8)
                .any(|word| second.chunks(8).any(|other| word == other))
        );
    }
}
