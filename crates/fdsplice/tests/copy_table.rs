//! Every kind of source to every kind of destination, in every length around the sizes at which
//! something changes: every byte, the count, the positions, and what is left in the source.

mod copy_support;

use std::process::{Command, Stdio};

use copy_support::{
    DESTINATIONS, Destination, FILE_START, Kind, MIB, PROMPT, SOURCES, Scratch, Source, data,
    device, duplicate, position, read_exactly, runtime, slurp, write_all,
};
use fdsplice::{CopyOptions, TrafficResult, copy};
use rustix::fs::fcntl_getfl;
use tokio::runtime::Runtime;

const SIZES: [usize; 8] = [0, 1, 42, 4095, 4097, 65_537, MIB + 1, 10 * MIB];
/// A terminal passes a few KiB at a time from thread to thread: its big sizes would take minutes,
/// and no path of the copy is different for them.
const MOST_OF_A_TERMINAL: usize = 65_537;

#[derive(Clone, Copy, Debug)]
struct How {
    blocking: bool,
    zero_copy: bool,
    most: usize,
}

struct Bench {
    runtime: Runtime,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        Self {
            runtime: runtime(),
            scratch: Scratch::new(),
        }
    }

    fn run(
        &self,
        name: &str,
        source: &Source,
        destination: &Destination,
        how: How,
        length: Option<usize>,
    ) -> TrafficResult {
        let mut options = CopyOptions::new().zero_copy(how.zero_copy);
        if let Some(length) = length {
            options = options.length(length as u64);
        }
        let ends = (duplicate(&source.fd), duplicate(&destination.fd));
        let flags = || [&source.fd, &destination.fd].map(|fd| fcntl_getfl(fd).expect("flags"));
        let before = flags();
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(PROMPT, copy(ends.0, ends.1, options)).await })
            .unwrap_or_else(|_| panic!("{name}: hangs"));
        assert_eq!(flags(), before, "{name}: the flags of what was passed in");
        result
    }
}

fn lengths(size: usize) -> Vec<Option<usize>> {
    let mut lengths = vec![0, 1, size / 2, size, size + 1];
    lengths.sort_unstable();
    lengths.dedup();
    std::iter::once(None)
        .chain(lengths.into_iter().map(Some))
        .collect()
}

fn one(bench: &Bench, from: Kind, to: Kind, how: How, size: usize, length: Option<usize>) {
    let name = format!("{from:?} to {to:?}, {size} bytes, length {length:?}, {how:?}");
    let bytes = data(size);
    let source = Source::new(from, bytes, how.blocking, &bench.scratch);
    let destination = Destination::new(to, how.blocking, &bench.scratch);
    let result = bench.run(&name, &source, &destination, how, length);
    let expected = length.map_or(size, |length| length.min(size));
    assert_eq!(result.error, None, "{name}");
    assert_eq!((result.tx, result.rx), (expected as u64, 0), "{name}");
    assert!(result.zero_copy <= result.tx, "{name}: {result:?}");
    if !how.zero_copy {
        assert_eq!(result.zero_copy, 0, "{name}");
    }
    let moved = FILE_START + expected as u64;
    for at in [source.position(), destination.position()]
        .into_iter()
        .flatten()
    {
        assert_eq!(at, moved, "{name}: a position");
    }
    // Not assert_eq: nobody wants to read megabytes.
    assert!(source.rest() == bytes[expected..], "{name}: what follows");
    if let Some(arrived) = destination.arrived() {
        assert_eq!(arrived.len(), expected, "{name}: bytes arrived");
        assert!(arrived == bytes[..expected], "{name}: bytes altered");
    }
}

fn to_everything(from: Kind, how: How) {
    let bench = Bench::new();
    for to in DESTINATIONS {
        let slow = from == Kind::Terminal || to == Kind::Terminal;
        let most = if slow { MOST_OF_A_TERMINAL } else { how.most };
        for size in SIZES.into_iter().filter(|&size| size <= most) {
            for length in lengths(size) {
                one(&bench, from, to, how, size, length);
            }
        }
    }
}

const PLAIN: How = How {
    blocking: false,
    zero_copy: true,
    most: 10 * MIB,
};

#[test]
fn tcp_to_everything() {
    to_everything(Kind::Tcp, PLAIN);
}

#[test]
fn unix_socket_to_everything() {
    to_everything(Kind::Unix, PLAIN);
}

#[test]
fn pipe_to_everything() {
    to_everything(Kind::Pipe, PLAIN);
}

#[test]
fn fifo_to_everything() {
    to_everything(Kind::Fifo, PLAIN);
}

#[test]
fn file_to_everything() {
    to_everything(Kind::File, PLAIN);
}

#[test]
fn memfd_to_everything() {
    to_everything(Kind::Memfd, PLAIN);
}

#[test]
fn terminal_to_everything() {
    to_everything(Kind::Terminal, PLAIN);
}

/// Beyond 1 MiB nothing changes that the other tests do not see.
#[test]
fn everything_that_blocks_to_everything_that_blocks() {
    for from in SOURCES {
        to_everything(
            from,
            How {
                blocking: true,
                most: MIB + 1,
                ..PLAIN
            },
        );
    }
}

#[test]
fn everything_to_everything_through_a_buffer() {
    for from in SOURCES {
        to_everything(
            from,
            How {
                zero_copy: false,
                most: MIB + 1,
                ..PLAIN
            },
        );
    }
}

#[test]
fn an_endless_device_to_everything() {
    let bench = Bench::new();
    for to in DESTINATIONS {
        let most = if to == Kind::Terminal {
            MOST_OF_A_TERMINAL
        } else {
            MIB + 1
        };
        for size in SIZES.into_iter().filter(|&size| size <= most) {
            let name = format!("/dev/zero to {to:?}, length {size}");
            let destination = Destination::new(to, false, &bench.scratch);
            let ends = (duplicate(device("/dev/zero")), duplicate(&destination.fd));
            let options = CopyOptions::new().length(size as u64);
            let result = bench
                .runtime
                .block_on(async {
                    tokio::time::timeout(PROMPT, copy(ends.0, ends.1, options)).await
                })
                .unwrap_or_else(|_| panic!("{name}: hangs"));
            assert_eq!(result.error, None, "{name}");
            assert_eq!(result.tx, size as u64, "{name}");
            if let Some(arrived) = destination.arrived() {
                assert!(
                    arrived == vec![0; size],
                    "{name}: {} bytes arrived",
                    arrived.len()
                );
            }
        }
    }
}

/// Files without a size, whose size is a lie, and a device that ends at once.
#[test]
fn files_of_the_kernel_to_everything() {
    let bench = Bench::new();
    // Its maps stand still, those of this process do not. It ends with its input.
    let mut other = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    write_all(other.stdin.as_ref().expect("its input"), b"!");
    // By then it has loaded its libraries.
    read_exactly(other.stdout.as_ref().expect("its output"), 1);
    let maps = format!("/proc/{}/maps", other.id());
    let paths = [
        maps.as_str(),
        "/proc/version",
        "/proc/filesystems",
        "/proc/kallsyms",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/devices/system/cpu/online",
        "/dev/null",
    ];
    for path in paths
        .into_iter()
        .filter(|path| std::path::Path::new(path).exists())
    {
        let whole = slurp(path);
        for to in DESTINATIONS {
            if to == Kind::Terminal && whole.len() > MOST_OF_A_TERMINAL {
                continue;
            }
            for length in lengths(whole.len()) {
                let name = format!("{path} to {to:?}, length {length:?}");
                let source = std::fs::File::open(path).expect("a file");
                let destination = Destination::new(to, false, &bench.scratch);
                let mut options = CopyOptions::new();
                if let Some(length) = length {
                    options = options.length(length as u64);
                }
                let ends = (duplicate(&source), duplicate(&destination.fd));
                let result = bench
                    .runtime
                    .block_on(async {
                        tokio::time::timeout(PROMPT, copy(ends.0, ends.1, options)).await
                    })
                    .unwrap_or_else(|_| panic!("{name}: hangs"));
                let expected = length.map_or(whole.len(), |length| length.min(whole.len()));
                assert_eq!(result.error, None, "{name}");
                assert_eq!(result.tx, expected as u64, "{name}");
                if path != "/dev/null" {
                    assert_eq!(position(&source), expected as u64, "{name}: the position");
                }
                if let Some(arrived) = destination.arrived() {
                    assert!(
                        arrived == whole[..expected],
                        "{name}: bytes altered, {} of {expected}",
                        arrived.len()
                    );
                }
            }
        }
    }
    other.kill().expect("an end");
    other.wait().expect("an end");
}
