//! Files for the load: each page identifies itself, so that a wrong byte or page is found.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use clap::{Args, ValueEnum};
use rustix::fs::{Advice, fadvise};

use crate::wire::{self, pattern};

const PAGE: usize = 4096;
const STAMP: usize = 8;
/// Bytes per read and write; whole pages.
const CHUNK: usize = 256 * 1024;

static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(PAGE));

#[derive(Args)]
pub(crate) struct Options {
    action: Action,
    /// Directory of the files, which are named 0, 1, 2 and so on
    #[arg(long)]
    directory: PathBuf,
    /// Number of files
    #[arg(long, default_value_t = 1)]
    files: u32,
    /// Bytes of each file
    #[arg(long)]
    size: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// Write the files that are missing or have another size
    Make,
    /// Fail unless each file has exactly its content
    Check,
    /// Write the files to the disk and drop them from the page cache
    Evict,
}

pub(crate) fn perform(options: &Options) -> io::Result<()> {
    fs::create_dir_all(&options.directory)?;
    for index in 0..options.files {
        let path = options.directory.join(index.to_string());
        let done = match options.action {
            Action::Make => make(&path, index, options.size),
            Action::Check => check(&path, index, options.size),
            Action::Evict => evict(&path),
        };
        done.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

fn make(path: &Path, index: u32, size: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == size) {
        return Ok(());
    }
    let mut file = File::create(path)?;
    let mut content = Content::new(index, size);
    let mut chunk = vec![0; CHUNK];
    loop {
        match content.fill(&mut chunk) {
            0 => return Ok(()),
            count => file.write_all(&chunk[..count])?,
        }
    }
}

fn check(path: &Path, index: u32, size: u64) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut content = Content::new(index, size);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return content.end(),
            count => content.expect(&chunk[..count])?,
        }
    }
}

fn evict(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // Dirty pages cannot be dropped.
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

/// The bytes of a file in order. Each page begins with the file number and the page number, so all pages differ.
pub(crate) struct Content {
    index: u32,
    size: u64,
    position: u64,
}

impl Content {
    pub(crate) fn new(index: u32, size: u64) -> Self {
        Self {
            index,
            size,
            position: 0,
        }
    }

    pub(crate) fn left(&self) -> u64 {
        self.size - self.position
    }

    /// Writes the next bytes to the buffer; returns their number, 0 at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() && self.left() > 0 {
            let room = &mut buffer[filled..];
            filled += self.next(room.len(), |at, bytes| {
                room[at..at + bytes.len()].copy_from_slice(bytes);
            });
        }
        filled
    }

    /// Compares the received bytes with the next ones.
    pub(crate) fn expect(&mut self, arrived: &[u8]) -> io::Result<()> {
        let mut seen = 0;
        while seen < arrived.len() {
            if self.left() == 0 {
                return Err(wire::wrong(format!("more than {} bytes", self.size)));
            }
            let (rest, mut equal) = (&arrived[seen..], true);
            let position = self.position;
            seen += self.next(rest.len(), |at, bytes| {
                equal &= rest[at..at + bytes.len()] == *bytes;
            });
            if !equal {
                return Err(wire::wrong(format!(
                    "a wrong byte in the page at {position}"
                )));
            }
        }
        Ok(())
    }

    /// Checks that all bytes have been seen.
    pub(crate) fn end(&self) -> io::Result<()> {
        match self.left() {
            0 => Ok(()),
            _ => Err(wire::wrong(format!(
                "an end after {} of {} bytes",
                self.position, self.size
            ))),
        }
    }

    /// Passes the rest of this page, at most `most` bytes, to `take` in one or two parts, each with its offset.
    fn next(&mut self, most: usize, mut take: impl FnMut(usize, &[u8])) -> usize {
        let page = self.position / PAGE as u64;
        #[expect(clippy::cast_possible_truncation, reason = "less than a page")]
        let begin = (self.position % PAGE as u64) as usize;
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let end = PAGE
            .min(begin.saturating_add(most))
            .min(begin.saturating_add(left));
        let stamp = (u64::from(self.index) << 32 | page).to_le_bytes();
        if begin < STAMP {
            take(0, &stamp[begin..end.min(STAMP)]);
        }
        if end > STAMP {
            let from = begin.max(STAMP);
            take(from - begin, &FILLER[from..end]);
        }
        self.position += (end - begin) as u64;
        end - begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(index: u32, size: u64) -> Vec<u8> {
        let mut buffer = vec![0; usize::try_from(size).unwrap()];
        assert_eq!(Content::new(index, size).fill(&mut buffer), buffer.len());
        buffer
    }

    #[test]
    fn content_is_recognized_in_chunks_of_any_size() {
        let whole = bytes(3, 10_001);
        for size in [1, 7, 8, 4095, 4096, 4097, 20_000] {
            let mut content = Content::new(3, 10_001);
            for part in whole.chunks(size) {
                content.expect(part).unwrap();
            }
            content.end().unwrap();
        }
    }

    #[test]
    fn a_swapped_page_another_file_a_flipped_bit_and_a_wrong_length_are_refused() {
        let whole = bytes(3, 3 * 4096);
        let mut swapped = whole.clone();
        swapped.copy_within(8192.., 4096);
        assert!(Content::new(3, 3 * 4096).expect(&swapped).is_err());
        assert!(Content::new(4, 3 * 4096).expect(&whole).is_err());
        for flipped in [0, 5000, 3 * 4096 - 1] {
            let mut spoiled = whole.clone();
            spoiled[flipped] ^= 1;
            assert!(Content::new(3, 3 * 4096).expect(&spoiled).is_err());
        }
        let mut short = Content::new(3, 3 * 4096);
        short.expect(&whole[..12_287]).unwrap();
        assert!(short.end().is_err());
        assert!(Content::new(3, 4096).expect(&whole[..4097]).is_err());
    }
}
