//! Copies of files with holes: the bytes are right, holes stay holes where that is possible, and the
//! search for holes does not move the position of the file.

mod copy_support;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use copy_support::{
    MIB, Scratch, contents, copied, data, go_to, on_disk, pair_of_files, position, write_all,
};
use fdsplice::CopyOptions;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;

const KIB: u64 = 1024;

#[test]
fn holes_overwrite_the_bytes_of_the_destination() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, b"");
    pwrite(&source, data(MIB), MIB as u64).expect("a write");
    ftruncate(&source, 3 * MIB as u64).expect("a hole");
    write_all(&destination, data(5 * MIB));
    go_to(&destination, 0);
    assert_eq!(
        copied(&source, &destination, CopyOptions::new()).tx,
        3 * MIB as u64
    );
    let (hole, old) = (vec![0; MIB], &data(5 * MIB)[3 * MIB..]);
    assert!(contents(&destination) == [&hole, data(MIB), &hole, old].concat());
}

#[test]
fn the_file_position_does_not_move_during_a_copy_with_a_start() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, b"");
    // The search for many holes could move it.
    for part in 0..2000 {
        pwrite(&source, data(4096), part * 8192).expect("a write");
    }
    go_to(&source, 5);
    let over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (over, source) = (Arc::clone(&over), source.try_clone().expect("a duplicate"));
        thread::spawn(move || {
            let mut astray = 0;
            while !over.load(Ordering::Relaxed) {
                astray += u32::from(position(&source) != 5);
            }
            astray
        })
    };
    for _ in 0..20 {
        let options = CopyOptions::new().start(0).position(0);
        assert_eq!(copied(&source, &destination, options).error, None);
        ftruncate(&destination, 0).expect("an empty file");
    }
    over.store(true, Ordering::Relaxed);
    assert_eq!(
        watcher.join().expect("a watcher"),
        0,
        "samples with another position"
    );
}

#[test]
fn holes_between_small_data_ranges_stay_holes() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, b"");
    for part in 0..100 {
        pwrite(&source, data(4096), part * 512 * KIB).expect("a write");
    }
    assert_eq!(
        copied(&source, &destination, CopyOptions::new()).error,
        None
    );
    assert!(contents(&source) == contents(&destination));
    let (had, has) = (on_disk(&source), on_disk(&destination));
    assert!(
        has <= 2 * had,
        "{has} bytes on disk, from a file with {had}"
    );
}

/// Also where the hole is as short as a block: extending the destination leaves no block behind.
#[test]
fn holes_of_one_block_stay_holes() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, b"");
    for part in 0..500 {
        pwrite(&source, data(4096), (2 * part + 1) * 4 * KIB).expect("a write");
    }
    ftruncate(&source, 5 * MIB as u64).expect("a hole");
    let result = copied(&source, &destination, CopyOptions::new());
    assert_eq!((result.tx, result.error), (5 * MIB as u64, None));
    assert!(contents(&source) == contents(&destination));
    let (had, has) = (on_disk(&source), on_disk(&destination));
    assert!(
        2 * has <= 3 * had,
        "{has} bytes on disk, from a file with {had}"
    );
}

#[test]
fn a_hole_is_appended_as_zeros() {
    let scratch = Scratch::new();
    let (source, _) = pair_of_files(&scratch, b"");
    pwrite(&source, data(4096), MIB as u64).expect("a write");
    ftruncate(&source, 2 * MIB as u64).expect("a hole");
    let path = scratch.path();
    std::fs::write(&path, b"before ").expect("a file");
    let destination = File::options()
        .append(true)
        .read(true)
        .open(&path)
        .expect("a file");
    let result = copied(&source, &destination, CopyOptions::new());
    assert_eq!((result.tx, result.error), (2 * MIB as u64, None));
    let written = contents(&destination);
    assert!(written == [b"before ", contents(&source).as_slice()].concat());
}

#[test]
fn a_hole_past_the_end_of_the_destination_is_zeros() {
    let scratch = Scratch::new();
    let (source, destination) = pair_of_files(&scratch, b"");
    ftruncate(&source, MIB as u64).expect("a hole");
    write_all(&destination, b"old");
    let options = CopyOptions::new().position(5).length(MIB as u64 - 1);
    let result = copied(&source, &destination, options);
    assert_eq!((result.tx, result.error), (MIB as u64 - 1, None));
    let zeros = vec![0; MIB + 1];
    assert!(contents(&destination) == [b"old", zeros.as_slice()].concat());
}

/// Between two file systems the bytes have to be read and written, but a hole has no bytes.
#[test]
fn holes_stay_holes_between_two_file_systems() {
    let scratch = Scratch::new();
    let source = scratch.file();
    let destination = memfd_create("fdsplice", MemfdFlags::CLOEXEC)
        .map(File::from)
        .expect("a memfd");
    pwrite(&source, data(MIB), 40 * MIB as u64).expect("a write");
    ftruncate(&source, 80 * MIB as u64).expect("a hole");
    let result = copied(&source, &destination, CopyOptions::new());
    assert_eq!((result.tx, result.error), (80 * MIB as u64, None));
    assert!(contents(&source) == contents(&destination));
    let (had, has) = (on_disk(&source), on_disk(&destination));
    assert!(
        has <= 2 * had,
        "{has} bytes in memory, from a file with {had}"
    );
}
