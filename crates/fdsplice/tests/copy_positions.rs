//! The positions at which copies read and write files, and the file positions afterwards.

mod copy_support;

use std::fs::File;
use std::thread;

use copy_support::{
    Kind, MIB, Scratch, WIRES, Wire, contents, copied, copying, data, go_to, pair_of_files,
    position, read_exactly, write_all,
};
use fdsplice::CopyOptions;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

const KIB: usize = 1024;

fn appending(file: File) -> File {
    let flags = fcntl_getfl(&file).expect("flags");
    fcntl_setfl(&file, flags | OFlags::APPEND).expect("flags");
    file
}

#[test]
fn start_and_position_do_not_move_the_file_positions() {
    let scratch = Scratch::new();
    for zero_copy in [true, false] {
        let (source, destination) = pair_of_files(&scratch, data(100 * KIB));
        go_to(&source, 11);
        go_to(&destination, 22);
        let options = CopyOptions::new()
            .start(1000)
            .position(500)
            .length(70_000)
            .zero_copy(zero_copy);
        let result = copied(&source, &destination, options);
        assert_eq!((result.tx, result.error), (70_000, None));
        assert_eq!((position(&source), position(&destination)), (11, 22));
        let all = contents(&destination);
        assert!(all[..500].iter().all(|&byte| byte == 0));
        assert!(all[500..] == data(100 * KIB)[1000..71_000]);
    }
}

#[test]
fn start_works_with_every_kind_of_destination() {
    let scratch = Scratch::new();
    for kind in WIRES {
        let (source, _) = pair_of_files(&scratch, data(60_000));
        go_to(&source, 7);
        let Wire { reader, writer } = Wire::new(kind, &scratch);
        let options = CopyOptions::new().start(1234).head(*b"head");
        let running = copying(&source, &writer, options);
        assert_eq!(read_exactly(&reader, 4), b"head", "{kind:?}");
        assert!(
            read_exactly(&reader, 60_000 - 1234) == data(60_000)[1234..],
            "{kind:?}"
        );
        assert_eq!(running.result().tx, 60_000 - 1234 + 4, "{kind:?}");
        assert_eq!(position(&source), 7, "{kind:?}");
    }
}

#[test]
fn position_works_with_every_kind_of_source() {
    let scratch = Scratch::new();
    for kind in WIRES {
        let destination = scratch.file();
        write_all(&destination, b"..........");
        go_to(&destination, 3);
        let Wire { reader, writer } = Wire::new(kind, &scratch);
        let options = CopyOptions::new().position(2).length(5).head(*b"<");
        let running = copying(&reader, &destination, options);
        write_all(&writer, b"hello world");
        assert_eq!(running.result().tx, 6, "{kind:?}");
        assert_eq!(contents(&destination), b"..<hello..", "{kind:?}");
        assert_eq!(position(&destination), 3, "{kind:?}");
        assert_eq!(read_exactly(&reader, 6), b" world", "{kind:?}");
    }
}

#[test]
fn successive_copies_take_successive_ranges() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, data(3 * MIB));
    for length in [0, 1, 4096, MIB, 5 * MIB] {
        copied(
            &source,
            &destination,
            CopyOptions::new().length(length as u64),
        );
    }
    assert!(contents(&destination) == data(3 * MIB));
    assert_eq!(copied(&source, &destination, CopyOptions::new()).tx, 0);
}

#[test]
fn a_file_opened_with_append_is_appended_to_at_any_position() {
    let scratch = Scratch::new();
    for kind in [
        Kind::File,
        Kind::Tcp,
        Kind::Unix,
        Kind::Pipe,
        Kind::Terminal,
    ] {
        let destination = scratch.file();
        write_all(&destination, b"before");
        let destination = appending(destination);
        go_to(&destination, 1);
        let (source, feeder) = if kind == Kind::File {
            (pair_of_files(&scratch, data(70_000)).0.into(), None)
        } else {
            let Wire { reader, writer } = Wire::new(kind, &scratch);
            let feeder = thread::spawn(move || {
                write_all(&writer, data(70_000));
                writer
            });
            (reader, Some(feeder))
        };
        let options = CopyOptions::new().length(70_000);
        let result = copied(&source, &destination, options);
        assert_eq!((result.tx, result.error), (70_000, None), "{kind:?}");
        assert!(
            contents(&destination) == [b"before", data(70_000)].concat(),
            "{kind:?}"
        );
        // The position is the same as after write(2).
        assert_eq!(position(&destination), 70_006, "{kind:?}");
        drop(feeder.map(thread::JoinHandle::join));
    }
}
