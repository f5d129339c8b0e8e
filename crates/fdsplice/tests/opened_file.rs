//! Files that are opened to be sent: small ones are read at once, and sent as far as a socket takes
//! them.

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

/// A file, and the directory that takes it away.
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
fn a_part_of_at_most_64_kib_is_read_and_a_larger_one_left_open() {
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
fn a_file_of_the_kernel_that_does_not_say_its_size_is_left_open() {
    let version = opened(Path::new("/proc/version"), 0, None);
    assert_eq!(version.size(), 0);
    assert!(version.unsent().is_none());
    // One that says it is a page long, and ends before.
    let online = opened(Path::new("/sys/devices/system/cpu/online"), 0, None);
    assert!(online.unsent().is_none());
}

#[test]
fn what_is_no_regular_file_is_refused() {
    for path in ["/", "/dev/null"] {
        let error = PreopenedFile::open(Path::new(path), 0, None, true).expect_err("a refusal");
        assert!(
            matches!(error, EndpointError::Unsupported("not a regular file")),
            "{path}: {error}"
        );
    }
    let missing = PreopenedFile::open(Path::new("/nowhere"), 0, None, true).expect_err("a refusal");
    let EndpointError::System { errno, syscall } = missing else {
        panic!("{missing}");
    };
    assert_eq!((errno, syscall), (Errno::NOENT, "open"));
}

/// A socket that takes less than a small file, what it had taken before, and its peer.
fn crowded() -> (UnixStream, usize, UnixStream) {
    let (mut near, mut far) = UnixStream::pair().expect("sockets");
    near.set_nonblocking(true).expect("no blocking");
    let mut taken = 0;
    while let Ok(written) = near.write(&[b'-'; 512]) {
        taken += written;
    }
    // A Unix socket lends its room by the message, so the rest is asked for in small ones.
    let room = taken - 4096;
    let mut before = vec![0; taken - room];
    far.read_exact(&mut before).expect("the first messages");
    (near, room, far)
}

/// A small file of `bytes`, of which that socket took a part at once.
fn sent_in_part(bytes: &[u8], near: &UnixStream) -> PreopenedFile {
    let (_scratch, path) = file(bytes);
    let mut small = opened(&path, 0, None);
    assert!(!small.send_now(near), "not all of it fits");
    small
}

#[test]
fn a_socket_that_is_almost_full_takes_a_part_at_once_and_the_rest_when_there_is_room() {
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
fn an_abort_of_the_rest_counts_what_was_sent_at_once() {
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
fn a_socket_that_fails_is_a_failure_of_the_rest() {
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
