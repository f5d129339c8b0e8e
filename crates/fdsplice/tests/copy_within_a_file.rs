//! Copies within one file, and positions beyond every file.

mod copy_support;

use std::fs::File;
use std::os::fd::AsRawFd;

use copy_support::{MIB, Scratch, contents, copied, data, errno, go_to, pair_of_files};
use fdsplice::CopyOptions;
use rustix::fs::ftruncate;
use rustix::io::Errno;

#[test]
fn disjoint_ranges_of_one_file_are_copied_and_overlapping_ones_refused() {
    let scratch = Scratch::new();
    for zero_copy in [true, false] {
        let (file, _) = pair_of_files(&scratch, data(100_000));
        let copy = |start, length, position, head: &[u8]| {
            let options = CopyOptions::new()
                .start(start)
                .length(length)
                .position(position)
                .head(head)
                .zero_copy(zero_copy);
            copied(&file, &file, options)
        };
        for (start, length, position, head) in [
            (0, 10_000, 5000, &b""[..]),
            (5000, 10_000, 0, b""),
            (0, 10, 0, b""),
            (0, 10, 9, b""),
            // The head is also written there.
            (20_000, 100, 19_890, b"0123456789+"),
        ] {
            let result = copy(start, length, position, head);
            assert_eq!(
                errno(&result),
                Some(Errno::INVAL),
                "{start} {length} {position}"
            );
            assert_eq!(result.tx, 0);
            assert!(
                contents(&file) == data(100_000),
                "{start} {length} {position}"
            );
        }
        assert_eq!(copy(0, 10_000, 50_000, b"").tx, 10_000);
        assert_eq!(copy(90_000, 10_000, 80_000, b"").tx, 10_000);
        let old = data(100_000);
        let expected = [
            &old[..50_000],
            &old[..10_000],
            &old[60_000..80_000],
            &old[90_000..],
            &old[90_000..],
        ];
        assert!(contents(&file) == expected.concat());
    }
}

#[test]
fn a_file_appended_to_itself_is_doubled() {
    let scratch = Scratch::new();
    for size in [0, 1, 70_000, 3 * MIB] {
        let (source, _) = pair_of_files(&scratch, data(size));
        let path = format!("/proc/self/fd/{}", source.as_raw_fd());
        let destination = File::options().append(true).open(path).expect("the file");
        let result = copied(&source, &destination, CopyOptions::new());
        assert_eq!((result.tx, result.error), (size as u64, None));
        assert!(contents(&source) == [data(size), data(size)].concat());
        // The file position is at the end.
        let (file, _) = pair_of_files(&scratch, data(size));
        let options = CopyOptions::new().start(0);
        go_to(&file, size as u64);
        assert_eq!(copied(&file, &file, options).tx, size as u64);
        assert!(contents(&file) == [data(size), data(size)].concat());
    }
}

#[test]
fn positions_beyond_every_file_are_errors_without_a_panic() {
    let scratch = Scratch::new();
    for same in [false, true] {
        let (source, other) = pair_of_files(&scratch, data(1000));
        ftruncate(&source, 100_000).expect("a hole");
        let destination = if same { &source } else { &other };
        for far in [u64::MAX, u64::MAX - 10, 1 << 63, (1 << 63) - 1] {
            let result = copied(
                &source,
                destination,
                CopyOptions::new().start(0).position(far),
            );
            assert!(errno(&result).is_some(), "position {far}: {result:?}");
            assert_eq!(result.tx, 0);
            let result = copied(
                &source,
                destination,
                CopyOptions::new().start(far).position(0),
            );
            assert_eq!(result.tx, 0, "start {far}: {result:?}");
        }
        assert!(contents(&source)[..1000] == *data(1000));
    }
}
