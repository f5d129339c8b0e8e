//! Files opened to be sent: a small one is read at once, and sent as far as a socket accepts it.

mod copy_support;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copy_support::{Scratch, data, duplicate, runtime};
use fdsplice::{Control, EndpointError, PreopenedFile, Reason, SendFileOptions};
use rustix::io::Errno;

const SMALL: usize = 64 * 1024;

/// A file, and the directory that removes it when it is dropped.
fn file(bytes: &[u8]) -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let path = scratch.path();
    std::fs::write(&path, bytes).expect("a file");
    (scratch, path)
}

fn opened(path: &Path, start: u64, last: Option<u64>) -> PreopenedFile {
    PreopenedFile::open(path, start, last, true).expect("an open file")
}

#[test]
fn a_range_of_at_most_64_kib_is_read_at_once_and_a_larger_one_is_not() {
    let bytes = data(SMALL + 1);
    let (_scratch, path) = file(bytes);
    let whole = opened(&path, 0, None);
    assert_eq!(whole.size(), bytes.len() as u64);
    assert!(whole.unsent().is_none() && whole.endpoint().is_some());
    for (start, last, wanted) in [
        (1, None, &bytes[1..]),
        (0, Some(SMALL as u64 - 1), &bytes[..SMALL]),
        (5, Some(5), &bytes[5..=5]),
        (9, Some(u64::MAX), &bytes[9..]),
        (SMALL as u64 + 1, None, &[]),
        (u64::MAX, None, &[]),
    ] {
        let part = opened(&path, start, last);
        assert_eq!(part.unsent(), Some(wanted), "from {start} to {last:?}");
        assert!(part.endpoint().is_none(), "it is closed");
    }
    let kept = PreopenedFile::open(&path, 1, None, false).expect("an open file");
    assert!(kept.unsent().is_none() && kept.endpoint().is_some());
}

#[test]
fn a_kernel_file_without_a_size_is_left_open() {
    let version = opened(Path::new("/proc/version"), 0, None);
    assert_eq!(version.size(), 0);
    assert!(version.unsent().is_none());
    // This file reports the size of a page and ends before it.
    let online = opened(Path::new("/sys/devices/system/cpu/online"), 0, None);
    assert!(online.unsent().is_none());
}

#[test]
fn a_path_that_is_not_a_regular_file_is_refused() {
    for (path, found) in [("/", "a directory"), ("/dev/null", "a character device")] {
        let error = PreopenedFile::open(Path::new(path), 0, None, true).expect_err("a refusal");
        assert_eq!(
            error.to_string(),
            format!("expected a regular file: the descriptor is {found}")
        );
    }
    let missing = PreopenedFile::open(Path::new("/nowhere"), 0, None, true).expect_err("a refusal");
    let EndpointError::System { errno, syscall } = missing else {
        panic!("{missing}");
    };
    assert_eq!((errno, syscall), (Errno::NOENT, "open"));
}

/// A socket with less room than a small file needs, the count of bytes already in it, and its peer.
fn crowded() -> (UnixStream, usize, UnixStream) {
    let (mut near, mut far) = UnixStream::pair().expect("sockets");
    near.set_nonblocking(true).expect("no blocking");
    let mut taken = 0;
    while let Ok(written) = near.write(&[b'-'; 512]) {
        taken += written;
    }
    // A Unix socket frees its room by whole messages, so this fills it with small ones.
    let room = taken - 4096;
    let mut before = vec![0; taken - room];
    far.read_exact(&mut before).expect("the first messages");
    (near, room, far)
}

/// A small file of `bytes`, of which the socket has accepted a part at once.
fn sent_in_part(bytes: &[u8], near: &UnixStream) -> PreopenedFile {
    let (_scratch, path) = file(bytes);
    let mut small = opened(&path, 0, None);
    assert!(!small.send_now(near), "not all of it fits");
    small
}

#[test]
fn an_almost_full_socket_accepts_a_part_at_once_and_the_rest_later() {
    let bytes = data(SMALL);
    let (near, before, mut far) = crowded();
    let small = sent_in_part(bytes, &near);
    let left = small.unsent().expect("bytes").len();
    let control = Control::new();
    let options = SendFileOptions::new()
        .control(control.clone())
        .end_destination(true);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        far.read_to_end(&mut all).expect("everything");
        all
    });
    let result = runtime().block_on(small.send(duplicate(near.as_fd()), options));
    drop(near);
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(result.tx, SMALL as u64, "{left} were left");
    assert_eq!(control.traffic().tx, SMALL as u64);
    let all = reader.join().expect("a reader");
    assert!(all[before..] == *bytes, "other bytes");
}

#[test]
fn an_abort_of_the_rest_counts_the_bytes_sent_at_once() {
    let bytes = data(SMALL);
    let (near, before, mut far) = crowded();
    let small = sent_in_part(bytes, &near);
    let sent = SMALL - small.unsent().expect("bytes").len();
    let options = SendFileOptions::new().idle_timeout(Duration::from_millis(50));
    let result = runtime().block_on(small.send(duplicate(near.as_fd()), options));
    let error = result.error.expect("a failure");
    assert!(matches!(error.reason, Reason::IdleTimeout), "{error}");
    assert!(result.tx >= sent as u64 && result.tx < SMALL as u64);
    drop(near);
    let mut all = Vec::new();
    far.read_to_end(&mut all).expect("everything");
    let accepted = usize::try_from(result.tx).expect("a count");
    assert!(all[before..] == bytes[..accepted], "other bytes");
}

#[test]
fn a_failed_socket_fails_the_rest() {
    let (_scratch, path) = file(data(100));
    let (near, far) = UnixStream::pair().expect("sockets");
    drop(far);
    let mut small = opened(&path, 0, None);
    assert!(!small.send_now(&near));
    near.set_nonblocking(true).expect("no blocking");
    let result = runtime().block_on(small.send(duplicate(near.as_fd()), SendFileOptions::new()));
    let error = result.error.expect("a failure");
    assert!(
        matches!(
            error.reason,
            Reason::System {
                errno: Errno::PIPE,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(result.tx, 0);
}
