//! Copies with block devices, which are files that `fstat` reports without a size and that cannot
//! grow.

mod copy_support;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;

use copy_support::{
    DESTINATIONS, Destination, Kind, MIB, SOURCES, Scratch, Source, Wire, contents, copied, data,
    device, duplicate, errno, failure, go_to, pair_of_files, position, read_to_end, runtime,
};
use fdsplice::{CopyOptions, SendFileOptions, Side, send_file};
use rustix::fs::ftruncate;
use rustix::io::{Errno, pwrite};

const SIZE: usize = 3 * MIB;
/// A device of `SIZE` bytes, which is removed when it is closed; `None` when the machine allows none.
fn block_device(scratch: &Scratch, bytes: &[u8]) -> Option<OwnedFd> {
    let path = scratch.path();
    std::fs::write(&path, bytes).expect("a file");
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(SIZE as u64))
        .expect("a file");
    let losetup = |arguments: &[&str]| {
        Command::new("losetup")
            .args(arguments)
            .output()
            .expect("losetup of util-linux")
    };
    let output = losetup(&["--find", "--show", path.to_str().expect("a path")]);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("nothing shown: no block device can be had here: {why}");
        return None;
    }
    let name = String::from_utf8(output.stdout).expect("a name");
    let opened = device(name.trim());
    // The device is still open, so this only makes its last close release it.
    assert!(losetup(&["--detach", name.trim()]).status.success());
    Some(opened)
}

#[test]
fn a_block_device_is_copied_to_every_kind() {
    let scratch = Scratch::new();
    let Some(source) = block_device(&scratch, data(SIZE)) else {
        return;
    };
    for (length, zero_copy) in [
        (None, true),
        (None, false),
        (Some(0), true),
        (Some(1), true),
        (Some(SIZE / 2), true),
        (Some(SIZE), false),
        (Some(SIZE + 1), true),
    ] {
        for kind in DESTINATIONS {
            let name = format!("{kind:?}, length {length:?}, zero copy: {zero_copy}");
            let destination = Destination::new(kind, true, &scratch);
            let mut options = CopyOptions::new().zero_copy(zero_copy);
            if let Some(length) = length {
                options = options.length(length as u64);
            }
            go_to(&source, 0);
            let result = copied(&source, &destination.fd, options);
            let expected = length.map_or(SIZE, |length| length.min(SIZE));
            assert_eq!((result.tx, result.error), (expected as u64, None), "{name}");
            assert_eq!(position(&source), expected as u64, "{name}");
            if let Some(arrived) = destination.arrived() {
                assert!(arrived == data(SIZE)[..expected], "{name}");
            }
        }
    }
}

#[test]
fn every_kind_is_copied_to_a_block_device() {
    const START: usize = 4096;
    const END: usize = START + MIB + 1;
    let scratch = Scratch::new();
    for kind in SOURCES {
        for zero_copy in [true, false] {
            let name = format!("{kind:?}, zero copy: {zero_copy}");
            let Some(destination) = block_device(&scratch, b"") else {
                return;
            };
            let source = Source::new(kind, data(MIB + 1), true, &scratch);
            go_to(&destination, START as u64);
            let options = CopyOptions::new().zero_copy(zero_copy);
            let result = copied(&source.fd, &destination, options);
            assert_eq!((result.tx, result.error), (MIB as u64 + 1, None), "{name}");
            assert_eq!(position(&destination), END as u64, "{name}");
            assert_eq!(source.rest(), b"", "{name}");
            let all = contents(&destination);
            let untouched = [&all[..START], &all[END..]].concat();
            assert!(all[START..END] == *data(MIB + 1), "{name}");
            assert!(untouched == vec![0; SIZE - MIB - 1], "{name}");
        }
    }
}

#[test]
fn a_file_too_long_for_a_block_device_fills_it() {
    let scratch = Scratch::new();
    for zero_copy in [true, false] {
        let Some(destination) = block_device(&scratch, b"") else {
            return;
        };
        let (source, _) = pair_of_files(&scratch, data(SIZE + MIB));
        let options = CopyOptions::new().zero_copy(zero_copy);
        let result = copied(&source, &destination, options);
        let full = (Some(Side::Destination), Some(Errno::NOSPC));
        assert_eq!((result.tx, failure(&result)), (SIZE as u64, full));
        assert!(contents(&destination) == data(SIZE));
        assert_eq!(
            (position(&source), position(&destination)),
            (result.tx, result.tx)
        );
    }
}

#[test]
fn holes_become_zeros_on_a_block_device() {
    let scratch = Scratch::new();
    let Some(destination) = block_device(&scratch, data(SIZE)) else {
        return;
    };
    let (source, _) = pair_of_files(&scratch, b"");
    pwrite(&source, data(8192), MIB as u64).expect("a write");
    ftruncate(&source, SIZE as u64).expect("a hole");
    let result = copied(&source, &destination, CopyOptions::new());
    assert_eq!((result.tx, result.error), (SIZE as u64, None));
    assert!(contents(&destination) == contents(&source));
}

#[test]
fn ranges_of_one_block_device_are_kept_apart() {
    let scratch = Scratch::new();
    let Some(device) = block_device(&scratch, data(SIZE)) else {
        return;
    };
    let copy = |options: CopyOptions| copied(&device, &device, options);
    let overlapping = CopyOptions::new().start(0).length(5000).position(4096);
    assert_eq!(errno(&copy(overlapping)), Some(Errno::INVAL));
    assert!(contents(&device) == data(SIZE));
    let apart = CopyOptions::new()
        .start(0)
        .length(MIB as u64)
        .position(2 * MIB as u64);
    let result = copy(apart);
    assert_eq!((result.tx, result.error), (MIB as u64, None));
    let to_the_end = CopyOptions::new()
        .start(5 * MIB as u64 / 2)
        .position(MIB as u64);
    let result = copy(to_the_end);
    assert_eq!((result.tx, result.error), (MIB as u64 / 2, None));
    let (old, half) = (data(SIZE), MIB / 2);
    let expected = [
        &old[..MIB],
        &old[half..MIB],
        &old[MIB + half..2 * MIB],
        &old[..MIB],
    ];
    assert!(contents(&device) == expected.concat());
}

#[test]
fn a_block_device_is_sent_to_its_end() {
    let scratch = Scratch::new();
    let Some(source) = block_device(&scratch, data(SIZE)) else {
        return;
    };
    for (options, from, to) in [
        (SendFileOptions::new().start(0), 0, SIZE),
        (SendFileOptions::new().start(10).end(99), 10, 100),
        (
            SendFileOptions::new().start(MIB as u64).end(1 << 40),
            MIB,
            SIZE,
        ),
    ] {
        let Wire { reader, writer } = Wire::new(Kind::Tcp, &scratch);
        let reading = thread::spawn(move || read_to_end(&reader));
        let ends = (duplicate(&source), duplicate(&writer));
        let result = runtime().block_on(send_file(ends.0, ends.1, options));
        assert_eq!((result.tx, result.error), ((to - from) as u64, None));
        drop(writer);
        assert!(reading.join().expect("a reader") == data(SIZE)[from..to]);
    }
}
