//! Copies from every kind of source to every kind of destination, in lengths around the sizes at which
//! the method changes. Each checks every byte, the count, the positions, and the rest of the source.

mod copy_support;

use std::process::{Command, Stdio};
use std::thread;

use copy_support::{
    DESTINATIONS, Destination, FILE_START, Kind, MIB, PROMPT, SOURCES, Scratch, Source, data,
    device, duplicate, full, position, read_exactly, runtime, slurp, write_all,
};
use fdsplice::{CopyOptions, TrafficResult, copy};
use rustix::fs::fcntl_getfl;
use tokio::runtime::Runtime;

const SIZES: [usize; 8] = [0, 1, 42, 4095, 4097, 65_537, MIB + 1, 10 * MIB];
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    blocking: bool,
    zero_copy: bool,
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
        mode: Mode,
        length: Option<usize>,
    ) -> TrafficResult {
        let mut options = CopyOptions::new().zero_copy(mode.zero_copy);
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

/// Every length of the table, except those that would take minutes. A terminal passes a few KiB at a
/// time between threads, and copies that block or use a buffer need many calls. Their large sizes
/// have every length with `FDSPLICE_FULL=1` (`npm run test:full`) only.
fn lengths_between(from: Kind, to: Kind, mode: Mode, size: usize) -> Vec<Option<usize>> {
    let terminal = from == Kind::Terminal || to == Kind::Terminal;
    let few = vec![None, Some(size / 2), Some(size + 1)];
    let big = size > MIB + 1;
    match (terminal, mode == PLAIN) {
        _ if size <= 65_537 => lengths(size),
        (false, true) => lengths(size),
        (false, false) if !big || full() => lengths(size),
        (true, _) if full() => few,
        (true, true) if !big => few,
        (true, false) if big => vec![],
        _ => vec![None],
    }
}

fn one(bench: &Bench, from: Kind, to: Kind, mode: Mode, size: usize, length: Option<usize>) {
    let name = format!("{from:?} to {to:?}, {size} bytes, length {length:?}, {mode:?}");
    let bytes = data(size);
    let source = Source::new(from, bytes, mode.blocking, &bench.scratch);
    let destination = Destination::new(to, mode.blocking, &bench.scratch);
    let result = bench.run(&name, &source, &destination, mode, length);
    let expected = length.map_or(size, |length| length.min(size));
    assert_eq!(result.error, None, "{name}");
    assert_eq!((result.tx, result.rx), (expected as u64, 0), "{name}");
    assert!(result.zero_copy <= result.tx, "{name}: {result:?}");
    if !mode.zero_copy {
        assert_eq!(result.zero_copy, 0, "{name}");
    }
    let moved = FILE_START + expected as u64;
    for at in [source.position(), destination.position()]
        .into_iter()
        .flatten()
    {
        assert_eq!(at, moved, "{name}: a position");
    }
    // Not `assert_eq`, which would print megabytes.
    assert!(source.rest() == bytes[expected..], "{name}: what follows");
    if let Some(arrived) = destination.arrived() {
        assert_eq!(arrived.len(), expected, "{name}: bytes arrived");
        assert!(arrived == bytes[..expected], "{name}: bytes altered");
    }
}

fn to_every_kind(from: Kind, mode: Mode) {
    let bench = Bench::new();
    for to in DESTINATIONS {
        for size in SIZES {
            for length in lengths_between(from, to, mode, size) {
                one(&bench, from, to, mode, size, length);
            }
        }
    }
}

const PLAIN: Mode = Mode {
    blocking: false,
    zero_copy: true,
};

#[test]
fn tcp_to_every_kind() {
    to_every_kind(Kind::Tcp, PLAIN);
}

#[test]
fn unix_socket_to_every_kind() {
    to_every_kind(Kind::Unix, PLAIN);
}

#[test]
fn pipe_to_every_kind() {
    to_every_kind(Kind::Pipe, PLAIN);
}

#[test]
fn fifo_to_every_kind() {
    to_every_kind(Kind::Fifo, PLAIN);
}

#[test]
fn file_to_every_kind() {
    to_every_kind(Kind::File, PLAIN);
}

#[test]
fn memfd_to_every_kind() {
    to_every_kind(Kind::Memfd, PLAIN);
}

#[test]
fn terminal_to_every_kind() {
    to_every_kind(Kind::Terminal, PLAIN);
}

/// Runs the copies in parallel, because they spend most of their time waiting.
fn every_kind_to_every_kind(mode: Mode) {
    thread::scope(|scope| {
        for from in SOURCES {
            scope.spawn(move || to_every_kind(from, mode));
        }
    });
}

#[test]
fn every_blocking_kind_to_every_blocking_kind() {
    every_kind_to_every_kind(Mode {
        blocking: true,
        ..PLAIN
    });
}

#[test]
fn every_kind_to_every_kind_through_a_buffer() {
    every_kind_to_every_kind(Mode {
        zero_copy: false,
        ..PLAIN
    });
}

#[test]
fn an_endless_device_to_every_kind() {
    let bench = Bench::new();
    for to in DESTINATIONS {
        for size in SIZES {
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

/// Files without a size, files with a wrong size, and a device that ends at once.
#[test]
fn files_of_the_kernel_to_every_kind() {
    let bench = Bench::new();
    // The memory map of the child does not change, that of this process does. The child ends with
    // its input.
    let mut other = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    write_all(other.stdin.as_ref().expect("its input"), b"!");
    // After its output, the child has loaded its libraries.
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
            // The kernel prints megabytes of symbols for each length, and starts again for each part
            // that the terminal did not accept entirely.
            let slow = to == Kind::Terminal && whole.len() > MIB;
            if slow && !full() {
                continue;
            }
            let limit = if slow { 10 * PROMPT } else { PROMPT };
            for length in lengths_between(Kind::File, to, PLAIN, whole.len()) {
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
                        tokio::time::timeout(limit, copy(ends.0, ends.1, options)).await
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
