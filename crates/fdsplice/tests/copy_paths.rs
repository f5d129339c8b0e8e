//! Files opened by their paths for a copy: what is opened, created, truncated and copied, and what is
//! refused before.

mod copy_support;

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use copy_support::data;
use fdsplice::{Control, CopyPaths, CopyRange, Endpoint, EndpointError, OpenedPaths, Side};
use rustix::fs::{Mode, mkfifoat};
use rustix::io::Errno;

const MIB: usize = 1024 * 1024;

/// A directory that is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fdsplice-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WHOLE: CopyRange = CopyRange {
    start: 0,
    position: 0,
    length: None,
    copy_only: false,
};

fn paths(source: &Path, destination: &Path) -> CopyPaths {
    CopyPaths::new().source(source).destination(destination)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}

#[test]
fn a_small_file_is_copied_when_it_is_opened_and_a_larger_one_is_left_open() {
    let folder = Folder::new("small");
    let to = folder.0.join("copy");
    for (size, is_small, by_kernel) in [
        (0, true, false),
        (1, true, false),
        (64 * 1024, true, false),
        (64 * 1024 + 1, true, true),
        (MIB, true, true),
        (MIB + 1, false, false),
    ] {
        let bytes = &data(MIB + 1)[..size];
        let from = folder.file("source", bytes);
        std::fs::write(&to, data(2 * MIB)).expect("a longer file");
        match paths(&from, &to).copy_if_small(WHOLE).open() {
            Ok(OpenedPaths::Copied { bytes, zero_copy }) => {
                assert!(is_small, "{size}");
                assert_eq!((bytes, zero_copy), (size as u64, by_kernel), "{size}");
            }
            Ok(OpenedPaths::Open {
                source: Some(_),
                destination: Some(_),
            }) => assert!(!is_small, "{size}"),
            other => panic!("{size}: {other:?}"),
        }
        let expected = if is_small { bytes } else { &[] };
        assert_eq!(read(&to), expected, "{size}");
    }
}

#[test]
fn a_range_is_copied_to_its_position_and_keeps_the_rest_of_the_destination() {
    let folder = Folder::new("range");
    let from = folder.file("source", b"0123456789");
    for (start, length, position, expected) in [
        (2, Some(3), 1, "a234efghij"),
        (8, None, 4, "abcd89ghij"),
        (8, Some(100), 9, "abcdefghi89"),
        (10, None, 0, "abcdefghij"),
        (99, None, 0, "abcdefghij"),
    ] {
        let to = folder.file("copy", b"abcdefghij");
        let range = CopyRange {
            start,
            position,
            length,
            copy_only: true,
        };
        let paths = paths(&from, &to).keep_contents(true).copy_if_small(range);
        assert!(matches!(paths.open(), Ok(OpenedPaths::Copied { .. })));
        assert_eq!(String::from_utf8_lossy(&read(&to)), expected);
    }
}

#[test]
fn a_file_without_a_size_and_one_with_holes_are_left_open() {
    let folder = Folder::new("open");
    let sparse = folder.file("sparse", b"");
    let file = std::fs::OpenOptions::new().write(true).open(&sparse);
    file.and_then(|file| file.set_len(MIB as u64))
        .expect("a hole");
    for from in [Path::new("/proc/version"), &sparse] {
        let paths = paths(from, &folder.0.join("copy")).copy_if_small(WHOLE);
        assert!(
            matches!(paths.open(), Ok(OpenedPaths::Open { .. })),
            "{from:?}"
        );
    }
}

#[test]
fn the_destination_is_not_touched_when_the_source_cannot_be_opened() {
    let folder = Folder::new("missing");
    let kept = folder.file("kept", b"kept");
    let new = folder.0.join("new");
    for to in [&kept, &new] {
        let refused = paths(&folder.0.join("none"), to)
            .open()
            .expect_err("no source");
        assert_eq!(refused.side, Side::Source);
        let EndpointError::System { errno, syscall } = refused.error else {
            panic!("{refused:?}");
        };
        assert_eq!((errno, syscall), (Errno::NOENT, "open"));
    }
    assert!(read(&kept) == b"kept" && !new.exists());
}

#[test]
fn a_destination_that_is_the_source_is_refused_before_it_is_truncated() {
    let folder = Folder::new("same");
    let from = folder.file("source", b"kept");
    let link = folder.0.join("link");
    std::fs::hard_link(&from, &link).expect("a link");
    let descriptor = OwnedFd::from(std::fs::File::open(&from).expect("a file"));
    let opened = Endpoint::try_from(descriptor).expect("an endpoint");
    for paths in [
        paths(&from, &link).copy_if_small(WHOLE),
        CopyPaths::new().reads_from(&opened).destination(&link),
    ] {
        let refused = paths.open().expect_err("the same file");
        assert_eq!(refused.side, Side::Destination);
        assert!(matches!(refused.error, EndpointError::Unsupported { .. }));
        assert_eq!(read(&from), b"kept");
    }
    let both = paths(&from, &link)
        .keep_contents(true)
        .copy_if_small(WHOLE)
        .open();
    assert!(
        matches!(both, Ok(OpenedPaths::Open { .. })),
        "an ordinary copy compares the ranges"
    );
}

#[test]
fn only_regular_files_are_accepted_and_a_fifo_is_not_waited_for() {
    let folder = Folder::new("kinds");
    let file = folder.file("file", b"");
    let fifo = folder.0.join("fifo");
    mkfifoat(rustix::fs::CWD, &fifo, Mode::from_raw_mode(0o600)).expect("a FIFO");
    for other in [fifo.as_path(), Path::new("/dev/null")] {
        for (paths, side) in [
            (paths(other, &folder.0.join("new")), Side::Source),
            (paths(&file, other), Side::Destination),
        ] {
            let refused = paths.open().expect_err("no regular file");
            assert_eq!(refused.side, side);
            assert!(
                matches!(refused.error, EndpointError::Unsupported { .. }),
                "{other:?}"
            );
        }
    }
    assert!(!folder.0.join("new").exists());
}

#[test]
fn an_aborted_call_creates_and_truncates_nothing() {
    let folder = Folder::new("aborted");
    let (from, kept) = (
        folder.file("source", b"bytes"),
        folder.file("kept", b"kept"),
    );
    let new = folder.0.join("new");
    let control = Control::new();
    control.abort();
    for to in [&kept, &new] {
        let paths = paths(&from, to)
            .control(control.clone())
            .copy_if_small(WHOLE);
        assert!(paths.open().is_err());
    }
    assert!(read(&kept) == b"kept" && !new.exists());
}

#[test]
fn the_call_runs_in_the_background_and_closes_what_it_has_copied() {
    let folder = Folder::new("background");
    let from = folder.file("source", b"bytes");
    let to = folder.0.join("copy");
    let (sender, receiver) = mpsc::channel();
    let call = paths(&from, &to)
        .copy_if_small(WHOLE)
        .open_in_background(move |opened| sender.send(opened).expect("a receiver"))
        .expect("a thread");
    let opened = receiver
        .recv_timeout(Duration::from_secs(20))
        .expect("a result");
    assert!(matches!(opened, Ok(OpenedPaths::Copied { bytes: 5, .. })));
    assert_eq!(
        (read(&to), to.metadata().expect("a file").nlink()),
        (b"bytes".to_vec(), 1)
    );
    drop(call);
}
