//! Copies to a destination without free space. All counted bytes are on the disk, and the other bytes
//! can still be read from the source.

mod copy_support;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::thread;

use copy_support::{
    Kind, MIB, Scratch, Wire, contents, copied, data, failure, pair_of_files, position,
    read_to_end, set_blocking, skipped, write_all,
};
use fdsplice::{CopyOptions, Side};
use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::{Errno, pwrite};

/// The variable with the directory that has a limit, set in the process with the limit.
const LIMITED: &str = "FDSPLICE_TEST_LIMITED";

/// Copies from every kind of source to a file in the limited directory, until it is full.
fn fill(directory: &Path, wanted: Errno) {
    let scratch = Scratch::new();
    for kind in [
        Kind::File,
        Kind::Tcp,
        Kind::Unix,
        Kind::Pipe,
        Kind::Fifo,
        Kind::Terminal,
    ] {
        for (zero_copy, appends) in [(true, false), (false, false), (true, true)] {
            let name = format!("{kind:?}, zero copy: {zero_copy}, appends: {appends}");
            let limited = Scratch::inside(directory);
            let path = limited.path();
            let destination: OwnedFd = File::options()
                .read(true)
                .write(!appends)
                .append(appends)
                .create_new(true)
                .open(path)
                .expect("a file")
                .into();
            let bytes = data(3 * MIB);
            let (source, feeder) = source(kind, bytes, &scratch);
            let result = copied(
                &source,
                &destination,
                CopyOptions::new().zero_copy(zero_copy),
            );
            let full = (Some(Side::Destination), Some(wanted));
            assert_eq!(failure(&result), full, "{name}: {result:?}");
            let undelivered = result.error.map_or(vec![], |error| error.undelivered);
            let on_disk = contents(&destination);
            assert_eq!(on_disk.len() as u64, result.tx, "{name}: the count");
            assert!(result.tx > 0, "{name}");
            assert_eq!(
                position(&destination),
                result.tx,
                "{name}: the position of the destination"
            );
            if feeder.is_none() {
                assert_eq!(
                    position(&source),
                    result.tx,
                    "{name}: the position of the source"
                );
                assert!(undelivered.is_empty(), "{name}");
            }
            let all = [on_disk, undelivered, read_to_end(&source)].concat();
            assert!(
                all == bytes,
                "{name}: {} of {} bytes, or altered",
                all.len(),
                bytes.len()
            );
            if let Some(feeder) = feeder {
                feeder.join().expect("everything could be written");
            }
        }
    }
}

fn source(
    kind: Kind,
    bytes: &'static [u8],
    scratch: &Scratch,
) -> (OwnedFd, Option<thread::JoinHandle<()>>) {
    if kind == Kind::File {
        return (unlimited_file(bytes), None);
    }
    let wire = Wire::new(kind, scratch);
    set_blocking(&wire.reader, false);
    let (reader, feeder) = wire.fed(bytes);
    (reader, Some(feeder))
}

/// A file made before the limit was set, which may be longer than the limit.
fn unlimited_file(bytes: &[u8]) -> OwnedFd {
    let path = std::env::var_os(SOURCE).expect("a file made before");
    let file = File::open(path).expect("a file");
    assert!(contents(&file) == bytes);
    file.into()
}

const SOURCE: &str = "FDSPLICE_TEST_SOURCE";

/// Runs a test of this file again, in a shell that has set a limit; `false` when that is not permitted.
fn run_limited(name: &str, shell: &[&str], script: &str, scratch: &Scratch) -> bool {
    let directory = scratch.path();
    std::fs::create_dir(&directory).expect("a directory");
    let source = scratch.path();
    std::fs::write(&source, data(3 * MIB)).expect("a file");
    let status = Command::new(shell[0])
        .args(&shell[1..])
        .arg(format!(r#"{script}; exec "$0" --exact "$1" --nocapture"#))
        .arg(std::env::current_exe().expect("this test"))
        .arg(name)
        .env(LIMITED, &directory)
        .env(SOURCE, source)
        .status()
        .expect("a shell");
    if status.code() == Some(99) {
        skipped(&format!("{script:?} is not permitted here"));
        return false;
    }
    assert!(status.success(), "{status}");
    true
}

#[test]
fn a_full_file_system_fails_at_the_destination_with_an_exact_count() {
    const NAME: &str = "a_full_file_system_fails_at_the_destination_with_an_exact_count";
    if let Some(directory) = std::env::var_os(LIMITED) {
        return fill(Path::new(&directory), Errno::NOSPC);
    }
    let scratch = Scratch::new();
    run_limited(
        NAME,
        &["unshare", "--mount", "--map-root-user", "sh", "-c"],
        r#"mount -t tmpfs -o size=1M none "$FDSPLICE_TEST_LIMITED" || exit 99"#,
        &scratch,
    );
}

#[test]
fn a_file_size_limit_fails_at_the_destination_with_an_exact_count() {
    const NAME: &str = "a_file_size_limit_fails_at_the_destination_with_an_exact_count";
    if let Some(directory) = std::env::var_os(LIMITED) {
        return fill(Path::new(&directory), Errno::FBIG);
    }
    let scratch = Scratch::new();
    // `ulimit -f` counts blocks of 512 bytes, so the limit is 1 MiB and 2 KiB. The shell ignores
    // SIGXFSZ, as Node does.
    let limited = run_limited(
        NAME,
        &["sh", "-c"],
        "trap '' XFSZ; ulimit -f 2052 || exit 99",
        &scratch,
    );
    assert!(limited, "every process may lower its limit");
}

#[test]
fn a_hole_beyond_the_limit_fails_at_the_destination() {
    const NAME: &str = "a_hole_beyond_the_limit_fails_at_the_destination";
    if let Some(directory) = std::env::var_os(LIMITED) {
        let limited = Scratch::inside(Path::new(&directory));
        let destination = limited.file();
        let source = unlimited_file(data(3 * MIB));
        let _ = copied(&source, &destination, CopyOptions::new().length(4096));
        let sparse =
            File::open(std::env::var_os("FDSPLICE_TEST_SPARSE").expect("a file")).expect("a file");
        let result = copied(&sparse, &destination, CopyOptions::new());
        let full = (Some(Side::Destination), Some(Errno::FBIG));
        assert_eq!(failure(&result), full, "{result:?}");
        assert_eq!(contents(&destination).len() as u64, 4096 + result.tx);
        assert_eq!(position(&sparse), result.tx);
        assert_eq!(position(&destination), 4096 + result.tx);
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path();
    let sparse = File::create_new(&path).expect("a file");
    pwrite(&sparse, data(8192), 0).expect("a write");
    ftruncate(&sparse, 10 * MIB as u64).expect("a hole");
    let script = format!(
        "export FDSPLICE_TEST_SPARSE='{}'; trap '' XFSZ; ulimit -f 2052 || exit 99",
        path.display()
    );
    assert!(run_limited(NAME, &["sh", "-c"], &script, &scratch));
}

#[test]
fn a_copy_continues_where_it_stopped_after_a_full_file_system() {
    const NAME: &str = "a_copy_continues_where_it_stopped_after_a_full_file_system";
    if let Some(directory) = std::env::var_os(LIMITED) {
        let limited = Scratch::inside(Path::new(&directory));
        let ballast = limited.file();
        write_all(&ballast, data(700_000));
        let scratch = Scratch::inside(Path::new("/dev/shm"));
        let (source, _) = pair_of_files(&scratch, data(600_000));
        let destination = limited.file();
        let first = copied(&source, &destination, CopyOptions::new());
        assert!(first.error.is_some() && first.tx < 600_000, "{first:?}");
        ftruncate(&ballast, 0).expect("room");
        let second = copied(&source, &destination, CopyOptions::new());
        assert_eq!((first.tx + second.tx, second.error), (600_000, None));
        assert!(contents(&destination) == data(600_000));
        seek(&source, SeekFrom::Start(0)).expect("a position");
        return;
    }
    let scratch = Scratch::new();
    run_limited(
        NAME,
        &["unshare", "--mount", "--map-root-user", "sh", "-c"],
        r#"mount -t tmpfs -o size=1M none "$FDSPLICE_TEST_LIMITED" || exit 99"#,
        &scratch,
    );
}
