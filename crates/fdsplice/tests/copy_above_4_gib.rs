//! Copies of a sparse file above 4 GiB, more than 32 bits can count, to every kind of destination.

mod copy_support;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use copy_support::{
    Kind, Scratch, Wire, copied, copied_within, data, device, full, go_to, on_disk, open_null,
    pair_of_files, position, read_exactly, read_to_end, set_blocking,
};
use fdsplice::{CopyOptions, TrafficResult};
use rustix::fs::{MemfdFlags, SeekFrom, fstat, ftruncate, memfd_create, seek};
use rustix::io::{Errno, pwrite, read};

const ISLANDS: [u64; 4] = [0, 1 << 30, (1 << 32) - 4096, (1 << 32) + 123 * 4096];
const ISLAND: usize = 8192;
const BIG: u64 = (1 << 32) + (1 << 28);
const LENGTHS: [Option<u64>; 3] = [None, Some(BIG / 2), Some(BIG + 1)];
/// The time limit for gigabytes, each byte of which is compared, on a busy machine.
const LONG: Duration = Duration::from_secs(1800);

/// An empty file, and a file of `BIG` bytes with islands of data.
fn sparse(scratch: &Scratch) -> (File, File) {
    let (source, destination) = pair_of_files(scratch, b"");
    make_sparse(&source);
    (source, destination)
}

/// A file with islands of data, in memory, where reading a hole needs no memory; with
/// `FDSPLICE_FULL=1` (`npm run test:full`) on disk.
fn sparse_to_read(scratch: &Scratch) -> File {
    if full() {
        return sparse(scratch).0;
    }
    let file = memfd_create("fdsplice", MemfdFlags::CLOEXEC).expect("a memfd");
    make_sparse(&file);
    file.into()
}

fn make_sparse(file: impl AsFd) {
    for at in ISLANDS {
        pwrite(&file, data(ISLAND), at).expect("a write");
    }
    ftruncate(file, BIG).expect("a hole");
}

fn options(length: Option<u64>) -> (CopyOptions, u64) {
    match length {
        None => (CopyOptions::new(), BIG),
        Some(length) => (CopyOptions::new().length(length), length.min(BIG)),
    }
}

fn arrived(name: &str, result: &TrafficResult, expected: u64, source: impl AsFd) {
    assert_eq!(result.error, None, "{name}");
    assert_eq!(result.tx, expected, "{name}");
    assert_eq!(
        position(source),
        expected,
        "{name}: the position of the source"
    );
}

/// Copies into a file, where the holes have to stay holes.
fn stays_sparse(destination: &OwnedFd, source: &File, length: Option<u64>) {
    let name = format!("length {length:?}");
    go_to(source, 0);
    let (options, expected) = options(length);
    let result = copied_within(LONG, source, destination, options);
    arrived(&name, &result, expected, source);
    let size = fstat(destination).expect("a file").st_size;
    assert_eq!(u64::try_from(size), Ok(expected), "{name}");
    assert_eq!(position(destination), expected, "{name}");
    let (had, has) = (on_disk(source), on_disk(destination));
    assert!(
        has <= 2 * had,
        "{name}: {has} bytes on disk, from a file with {had}"
    );
    // There is no other data: the next data behind each island is the next island.
    let mut behind = 0;
    for at in ISLANDS.into_iter().filter(|&at| at < expected) {
        assert_eq!(seek(destination, SeekFrom::Data(behind)), Ok(at), "{name}");
        go_to(destination, at);
        assert!(
            read_exactly(destination, ISLAND) == data(ISLAND),
            "{name}: the bytes at {at}"
        );
        behind = at + ISLAND as u64;
    }
    assert_eq!(
        seek(destination, SeekFrom::Data(behind)),
        Err(Errno::NXIO),
        "{name}"
    );
}

#[test]
fn a_sparse_file_above_4_gib_stays_sparse() {
    for length in LENGTHS {
        let scratch = Scratch::new();
        let (source, destination) = sparse(&scratch);
        stays_sparse(&destination.into(), &source, length);
    }
}

#[test]
fn a_sparse_file_above_4_gib_stays_sparse_between_two_file_systems() {
    for length in LENGTHS {
        let scratch = Scratch::new();
        let (source, _) = sparse(&scratch);
        let destination = memfd_create("fdsplice", MemfdFlags::CLOEXEC).expect("a memfd");
        stays_sparse(&destination, &source, length);
    }
}

#[test]
fn a_sparse_file_above_4_gib_is_copied_to_a_device() {
    let scratch = Scratch::new();
    let source = sparse_to_read(&scratch);
    for length in LENGTHS {
        go_to(&source, 0);
        let (options, expected) = options(length);
        let result = copied_within(LONG, &source, open_null(), options);
        arrived("/dev/null", &result, expected, &source);
    }
    if full() {
        // The device is also a source, which is one hole without an end.
        let result = copied_within(LONG, device("/dev/zero"), open_null(), options(Some(BIG)).0);
        assert_eq!((result.tx, result.error), (BIG, None));
    }
}

/// Reads to the end. Returns the count of bytes, or the position of the first wrong one.
fn verified(reader: &OwnedFd) -> Result<u64, u64> {
    let mut buffer = vec![0; 1 << 20];
    let hole = vec![0; buffer.len()];
    let mut at = 0;
    loop {
        let got = match read(reader, &mut buffer) {
            Ok(0) => return Ok(at),
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(errno) => panic!("a read: {errno}"),
        };
        let end = at + got as u64;
        let has_data = |island: &u64| *island < end && at < *island + ISLAND as u64;
        let right = if ISLANDS.iter().any(has_data) {
            (at..end)
                .zip(&buffer)
                .all(|(at, &byte)| byte == byte_at(at))
        } else {
            buffer[..got] == hole[..got]
        };
        if !right {
            return Err(at);
        }
        at = end;
    }
}

fn byte_at(at: u64) -> u8 {
    ISLANDS
        .into_iter()
        .filter_map(|island| at.checked_sub(island))
        .find(|&inside| inside < ISLAND as u64)
        .map_or(0, |inside| {
            data(ISLAND)[usize::try_from(inside).expect("an island")]
        })
}

fn streams(source: &File, kind: Kind, zero_copy: bool, length: Option<u64>) {
    let name = format!("{kind:?}, zero copy: {zero_copy}, length {length:?}");
    let scratch = Scratch::new();
    go_to(source, 0);
    let Wire { reader, writer } = Wire::new(kind, &scratch);
    set_blocking(&writer, false);
    let reading = thread::spawn(move || verified(&reader));
    let (options, expected) = options(length);
    let result = copied_within(LONG, source, &writer, options.zero_copy(zero_copy));
    drop(writer);
    assert_eq!(reading.join().expect("a reader"), Ok(expected), "{name}");
    arrived(&name, &result, expected, source);
    if zero_copy {
        assert_eq!(result.zero_copy, expected, "{name}");
    }
}

/// `FDSPLICE_FULL=1` (`npm run test:full`) adds all kinds of streams, all lengths, and copies through
/// a buffer.
#[test]
fn a_sparse_file_above_4_gib_is_copied_to_a_stream() {
    let scratch = Scratch::new();
    let source = sparse_to_read(&scratch);
    streams(&source, Kind::Tcp, true, None);
    if !full() {
        return;
    }
    for kind in [Kind::Tcp, Kind::Unix, Kind::Pipe, Kind::Fifo] {
        for length in LENGTHS {
            streams(&source, kind, true, length);
        }
        streams(&source, kind, false, None);
    }
}

#[test]
fn a_range_above_4_gib_is_copied_by_its_position() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, b"");
    pwrite(&source, data(100_000), 5 << 30).expect("a write");
    let options = CopyOptions::new()
        .start((5 << 30) - 10)
        .length(50_010)
        .position(6 << 30);
    let result = copied(&source, &destination, options);
    assert_eq!((result.tx, result.error), (50_010, None));
    go_to(&destination, 6 << 30);
    assert!(read_to_end(&destination) == [&[0; 10], data(50_000)].concat());
}
