//! Copies of a file that end early: the position of the file, and the bytes that arrived.

mod copy_support;

use copy_support::{
    Kind, MIB, Scratch, WIRES, Wire, copying, data, errno, go_to, pair_of_files, position,
    read_exactly, read_to_end,
};
use fdsplice::{CopyOptions, Reason, Side};
use rustix::fs::ftruncate;
use rustix::io::Errno;

#[test]
fn an_aborted_copy_leaves_the_file_position_after_the_delivered_bytes() {
    let scratch = Scratch::new();
    for kind in WIRES {
        for (start, zero_copy) in [
            (None, true),
            (None, false),
            (Some(9), true),
            (Some(9), false),
        ] {
            let name = format!("{kind:?}, start {start:?}, zero copy: {zero_copy}");
            let (source, _) = pair_of_files(&scratch, data(10 * MIB));
            go_to(&source, 5);
            let Wire { reader, writer } = Wire::to_fill(kind, &scratch);
            let mut options = CopyOptions::new().zero_copy(zero_copy);
            if let Some(start) = start {
                options = options.start(start);
            }
            let running = copying(&source, &writer, options);
            running.stalled();
            running.abort();
            let result = running.result();
            let error = result.error.expect("a failure");
            assert_eq!(error.reason, Reason::Aborted, "{name}");
            assert!(error.undelivered.is_empty(), "{name}");
            let delivered = usize::try_from(result.tx).expect("a size");
            assert_eq!(
                position(&source),
                if start.is_some() { 5 } else { 5 + result.tx },
                "{name}"
            );
            drop(writer);
            let begin = usize::try_from(start.unwrap_or(5)).expect("a size");
            let arrived = read_to_end(&reader);
            assert_eq!(arrived.len(), delivered, "{name}");
            assert!(
                arrived == data(10 * MIB)[begin..begin + delivered],
                "{name}"
            );
        }
    }
}

#[test]
fn a_closed_reader_leaves_the_file_position_after_the_delivered_bytes() {
    let scratch = Scratch::new();
    for kind in [Kind::Tcp, Kind::Unix, Kind::Pipe, Kind::Fifo] {
        let (source, _) = pair_of_files(&scratch, data(10 * MIB));
        let Wire { reader, writer } = Wire::to_fill(kind, &scratch);
        let running = copying(&source, &writer, CopyOptions::new());
        read_exactly(&reader, 10_000);
        running.stalled();
        drop(reader);
        let result = running.result();
        assert!(
            matches!(errno(&result), Some(Errno::PIPE | Errno::CONNRESET)),
            "{kind:?}: {result:?}"
        );
        let error = result.error.expect("a failure");
        assert_eq!(error.side, Some(Side::Destination), "{kind:?}");
        assert!(result.tx >= 10_000);
        assert_eq!(position(&source), result.tx, "{kind:?}");
        assert!(error.undelivered.is_empty(), "{kind:?}");
    }
}

#[test]
fn a_copy_of_a_shrinking_source_ends_at_its_new_end() {
    let scratch = Scratch::new();
    for kind in [Kind::Tcp, Kind::Unix, Kind::Pipe] {
        for zero_copy in [true, false] {
            let (source, _) = pair_of_files(&scratch, data(10 * MIB));
            let Wire { reader, writer } = Wire::to_fill(kind, &scratch);
            let options = CopyOptions::new().zero_copy(zero_copy);
            let running = copying(&source, &writer, options);
            running.stalled();
            ftruncate(&source, 10_000).expect("a shorter file");
            drop(writer);
            let arrived = read_to_end(&reader);
            let result = running.result();
            assert_eq!(result.error, None, "{kind:?}");
            assert_eq!(arrived.len() as u64, result.tx, "{kind:?}");
            assert!(result.tx < 10 * MIB as u64, "{kind:?}");
            assert!(arrived[..10_000] == *data(10_000), "{kind:?}");
        }
    }
}
