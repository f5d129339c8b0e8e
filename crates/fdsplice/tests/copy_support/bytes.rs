//! Test data, and functions to write and read it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::LazyLock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::{Errno, pread, read, write};

pub(crate) const MIB: usize = 1024 * 1024;
/// The largest length of [`data`].
const MOST: usize = 10 * MIB;

/// The first `bytes` bytes of a stream without a period, which could hide a lost page.
pub(crate) fn data(bytes: usize) -> &'static [u8] {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut all = Vec::with_capacity(MOST);
        while all.len() < MOST {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            all.extend_from_slice(&state.to_le_bytes());
        }
        all
    });
    &ALL[..bytes]
}

pub(crate) fn position(fd: impl AsFd) -> u64 {
    seek(fd, SeekFrom::Current(0)).expect("a position")
}

/// The contents of a file. Its position does not matter.
pub(crate) fn contents(fd: impl AsFd) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; MIB];
    loop {
        match pread(&fd, &mut buffer, all.len() as u64).expect("a read") {
            0 => return all,
            got => all.extend_from_slice(&buffer[..got]),
        }
    }
}

/// Bytes that a file occupies on its disk.
pub(crate) fn on_disk(fd: impl AsFd) -> u64 {
    u64::try_from(fstat(fd).expect("a file").st_blocks).expect("blocks") * 512
}

pub(crate) fn go_to(fd: impl AsFd, at: u64) {
    seek(fd, SeekFrom::Start(at)).expect("a position");
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) {
    poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None).expect("a poll");
}

pub(crate) fn read_to_end(fd: impl AsFd) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match read(&fd, &mut buffer) {
            // The master of a terminal reports EIO after the terminal was closed.
            Ok(0) | Err(Errno::IO) => return all,
            Ok(got) => all.extend_from_slice(&buffer[..got]),
            Err(Errno::AGAIN) => wait(fd.as_fd(), PollFlags::IN),
            Err(errno) => panic!("a read: {errno}"),
        }
    }
}

pub(crate) fn read_exactly(fd: impl AsFd, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    let mut got = 0;
    while got < bytes {
        match read(&fd, &mut all[got..]) {
            Ok(0) => panic!("an end after {got} of {bytes} bytes"),
            Ok(more) => got += more,
            Err(Errno::AGAIN) => wait(fd.as_fd(), PollFlags::IN),
            Err(errno) => panic!("a read: {errno}"),
        }
    }
    all
}

pub(crate) fn write_all(fd: impl AsFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(&fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN) => wait(fd.as_fd(), PollFlags::OUT),
            Err(errno) => panic!("a write: {errno}"),
        }
    }
}

/// The contents of the file of a path, by plain reads.
pub(crate) fn slurp(path: &str) -> Vec<u8> {
    let mut all = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut all))
        .expect("a file");
    all
}
