//! The descriptors of a small file that was read when it was opened. The only test of its process,
//! because it counts the descriptors of the process.

mod copy_support;

use std::fs;
use std::future::Future;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::{Context, Waker};

use copy_support::{Scratch, data, duplicate, runtime};
use fdsplice::{PreopenedFile, SendFileOptions};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("procfs is mounted")
        .count()
}

#[test]
fn a_small_file_that_waits_for_its_destination_holds_no_descriptor_but_that() {
    let scratch = Scratch::new();
    let path = scratch.path();
    fs::write(&path, data(1000)).expect("a file");
    let (mut near, _far) = UnixStream::pair().expect("sockets");
    near.set_nonblocking(true).expect("no blocking");
    while near.write(&[b'-'; 512]).is_ok() {}
    let small = PreopenedFile::open(&path, 0, None, true).expect("an open file");
    assert_eq!(small.unsent(), Some(data(1000)));
    runtime().block_on(async {
        let destination = duplicate(near.as_fd());
        let before = descriptors();
        let mut sending = pin!(small.send(destination, SendFileOptions::new()));
        let polled = sending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "the destination is full");
        assert_eq!(descriptors(), before);
    });
}
