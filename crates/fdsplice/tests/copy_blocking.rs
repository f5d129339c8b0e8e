//! Copies with blocking descriptors, as a shell passes them: no copy blocks another, no byte is lost,
//! and the flags of the descriptors do not change.

mod copy_support;

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use copy_support::{
    Kind, MIB, PROMPT, Scratch, WIRES, Wire, copied, copying, data, duplicate, pty, read_exactly,
    read_to_end, runtime, set_blocking, skipped, write_all,
};
use fdsplice::{Control, CopyOptions, Reason, copy};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, seek};

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).expect("flags").contains(OFlags::NONBLOCK)
}

#[test]
fn a_fifo_whose_writer_has_closed_it_ends_after_its_bytes() {
    for size in [0, 42, 65_536] {
        for blocking in [true, false] {
            let scratch = Scratch::new();
            let from = Wire::new(Kind::Fifo, &scratch);
            write_all(&from.writer, data(size));
            drop(from.writer);
            set_blocking(&from.reader, blocking);
            let to = Wire::new(Kind::Unix, &scratch);
            let collector = thread::spawn(move || read_to_end(&to.reader));
            let result = copied(&from.reader, &to.writer, CopyOptions::new());
            assert_eq!((result.tx, result.error), (size as u64, None));
            drop(to.writer);
            assert!(collector.join().expect("a collector") == data(size));
        }
    }
}

#[test]
fn flags_do_not_change_while_bytes_flow_or_while_the_copy_waits() {
    let scratch = Scratch::new();
    for from in WIRES {
        for to in WIRES {
            let (source, destination) = (Wire::new(from, &scratch), Wire::new(to, &scratch));
            let running = copying(&source.reader, &destination.writer, CopyOptions::new());
            let mut samples = 0;
            for part in 0..3 {
                write_all(&source.writer, data(3000));
                while running.tx() < 3000 * (part + 1) || samples < 200 * (part + 1) {
                    assert!(
                        !is_nonblocking(&source.reader) && !is_nonblocking(&destination.writer),
                        "{from:?} to {to:?}"
                    );
                    samples += 1;
                }
                assert!(read_exactly(&destination.reader, 3000) == data(3000));
            }
            running.abort();
            assert_eq!(running.result().tx, 9000, "{from:?} to {to:?}");
            assert!(!is_nonblocking(&source.reader) && !is_nonblocking(&destination.writer));
        }
    }
}

/// Copies to a destination that is not read, and aborts the copy. Afterwards all bytes of the source
/// are in three places, in order: delivered, undelivered, or unread.
fn no_byte_is_lost(from: Kind, to: Kind, blocking: bool) {
    let name = format!("{from:?} to {to:?}, blocking: {blocking}");
    let scratch = Scratch::new();
    // More bytes than all buffers on the way hold. A terminal is slow and holds fewer.
    let slow = from == Kind::Terminal || to == Kind::Terminal;
    let bytes = data(if slow && from != Kind::Tcp && to != Kind::Tcp {
        MIB
    } else {
        10 * MIB
    });
    let (source, destination) = (Wire::new(from, &scratch), Wire::new(to, &scratch));
    set_blocking(&source.reader, blocking);
    set_blocking(&destination.writer, blocking);
    let (reader, feeder) = source.fed(bytes);
    let running = copying(&reader, &destination.writer, CopyOptions::new());
    running.stalled();
    let since = Instant::now();
    running.abort();
    let result = running.result();
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{name}: {:?}",
        since.elapsed()
    );
    let error = result.error.expect("a failure");
    assert_eq!(error.reason, Reason::Aborted, "{name}");
    let rest = thread::spawn(move || read_to_end(&reader));
    drop(destination.writer);
    let arrived = read_to_end(&destination.reader);
    assert_eq!(arrived.len() as u64, result.tx, "{name}: the count");
    let all = [arrived, error.undelivered, rest.join().expect("the rest")].concat();
    assert_eq!(all.len(), bytes.len(), "{name}: what is left");
    assert!(all == bytes, "{name}: bytes altered");
    feeder.join().expect("everything could be written");
}

#[test]
fn no_byte_is_lost_when_a_copy_to_a_full_destination_is_aborted() {
    for from in WIRES {
        for to in WIRES {
            no_byte_is_lost(from, to, false);
        }
    }
}

#[test]
fn no_byte_is_lost_when_a_blocking_copy_to_a_full_destination_is_aborted() {
    for from in WIRES {
        for to in WIRES {
            no_byte_is_lost(from, to, true);
        }
    }
}

/// The master of a terminal cannot be opened a second time, so its calls really block.
#[test]
fn a_copy_to_the_master_of_an_unread_terminal_can_be_aborted() {
    for blocking in [false, true] {
        let scratch = Scratch::new();
        let (master, terminal) = pty::pair();
        set_blocking(&master, blocking);
        let source = scratch.file();
        write_all(&source, data(MIB));
        let running = copying(&source, &master, CopyOptions::new().start(0));
        let before = running.stalled();
        // There is room for less than one whole write, so a write to a writable master still blocks.
        let mut got = read_exactly(&terminal, 100);
        thread::sleep(Duration::from_millis(300));
        running.abort();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !running.is_over() {
            assert!(
                Instant::now() < deadline,
                "blocking: {blocking}: the abort is not noticed"
            );
            thread::sleep(Duration::from_millis(10));
        }
        let result = running.result();
        assert!(result.tx >= before && result.tx < MIB as u64);
        let more = usize::try_from(result.tx).expect("a size") - got.len();
        got.extend(read_exactly(&terminal, more));
        assert!(
            got == data(MIB)[..got.len()],
            "blocking: {blocking}: bytes altered"
        );
    }
}

#[test]
fn a_copy_from_a_silent_blocking_source_can_be_aborted() {
    for kind in WIRES {
        let scratch = Scratch::new();
        let (source, destination) = (Wire::new(kind, &scratch), Wire::new(Kind::Pipe, &scratch));
        let running = copying(&source.reader, &destination.writer, CopyOptions::new());
        thread::sleep(Duration::from_millis(100));
        let since = Instant::now();
        running.abort();
        let result = running.result();
        assert_eq!(
            result.error.map(|error| error.reason),
            Some(Reason::Aborted),
            "{kind:?}"
        );
        assert!(since.elapsed() < Duration::from_secs(5), "{kind:?}");
    }
}

#[test]
fn a_copy_with_a_silent_blocking_source_or_a_full_blocking_destination_is_idle() {
    for kind in WIRES {
        let scratch = Scratch::new();
        let (silent, full) = (Wire::new(kind, &scratch), Wire::new(kind, &scratch));
        let file = scratch.file();
        write_all(&file, data(10 * MIB));
        seek(&file, SeekFrom::Start(0)).expect("a position");
        for (source, destination) in [
            (duplicate(&silent.reader), duplicate(null())),
            (duplicate(&file), duplicate(&full.writer)),
        ] {
            let options = CopyOptions::new().idle_timeout(Duration::from_millis(500));
            let result = copying(&source, &destination, options).result();
            assert_eq!(
                result.error.map(|error| error.reason),
                Some(Reason::IdleTimeout),
                "{kind:?}"
            );
        }
    }
}

/// One thread serves all copies, so a call that blocks it blocks every copy.
#[test]
fn silent_blocking_ends_do_not_delay_another_copy() {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        let scratch = Scratch::new();
        let runtime = runtime();
        let silent: Vec<Wire> = WIRES
            .iter()
            .map(|&kind| Wire::new(kind, &scratch))
            .collect();
        let full: Vec<Wire> = WIRES
            .iter()
            .map(|&kind| Wire::new(kind, &scratch))
            .collect();
        let source = scratch.file();
        write_all(&source, data(10 * MIB));
        let control = Control::new();
        for wire in &silent {
            let options = CopyOptions::new().control(control.clone());
            runtime.spawn(copy(duplicate(&wire.reader), duplicate(null()), options));
        }
        for wire in &full {
            let options = CopyOptions::new().start(0).control(Control::new());
            runtime.spawn(copy(duplicate(&source), duplicate(&wire.writer), options));
        }
        let (near, far) = (
            Wire::new(Kind::Tcp, &scratch),
            Wire::new(Kind::Tcp, &scratch),
        );
        let echo = thread::spawn(move || {
            for _ in 0..1000 {
                write_all(&near.writer, b"ping");
                assert_eq!(read_exactly(&far.reader, 4), b"ping");
            }
        });
        let ends = (duplicate(&near.reader), duplicate(&far.writer));
        let result = runtime.block_on(copy(ends.0, ends.1, CopyOptions::new().length(4000)));
        echo.join().expect("an echo");
        runtime.shutdown_background();
        done.send(result.tx).expect("a receiver");
    });
    assert_eq!(wait.recv_timeout(PROMPT), Ok(4000));
}

fn null() -> OwnedFd {
    copy_support::open_null()
}

const CHILD: &str = "FDSPLICE_TEST_WITHOUT_PROC";

/// A pipe of another user, or one in a sandbox without procfs, cannot be opened a second time. When
/// the machine allows no mount namespace, this test reports that and is skipped.
#[test]
fn pipes_that_cannot_be_opened_again_lose_no_byte_and_do_not_spin() {
    const NAME: &str = "pipes_that_cannot_be_opened_again_lose_no_byte_and_do_not_spin";
    if std::env::var_os(CHILD).is_some() {
        for (from, to) in [
            (Kind::Pipe, Kind::Pipe),
            (Kind::Pipe, Kind::Tcp),
            (Kind::Tcp, Kind::Pipe),
            (Kind::Fifo, Kind::Pipe),
        ] {
            no_byte_is_lost(from, to, true);
        }
        return wait_for_a_reader();
    }
    let test = std::env::current_exe().expect("this test");
    let mut child = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c"])
        .arg(r#"mount -t tmpfs none /proc || exit 99; exec "$0" --exact "$1" --nocapture"#)
        .arg(test)
        .arg(NAME)
        .env(CHILD, "1")
        .spawn()
        .expect("unshare of util-linux");
    let ticks = |pid: u32| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    let mut last = 0;
    let mut seen = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        let now = ticks(child.id()).unwrap_or(last);
        seen.push(now - last);
        last = now;
        thread::sleep(Duration::from_millis(500));
    };
    if matches!(status.code(), Some(99 | 1)) && seen.len() < 2 {
        skipped("this machine allows no mount namespace without procfs");
        return;
    }
    assert!(status.success(), "{status}");
    // The copy only waits during the last four samples.
    let idle: u64 = seen.iter().rev().skip(1).take(4).sum();
    assert!(
        idle < 50,
        "{idle} ticks of 10 ms in 2 s of waiting: {seen:?}"
    );
}

fn wait_for_a_reader() {
    let scratch = Scratch::new();
    let (source, destination) = (
        Wire::new(Kind::Pipe, &scratch),
        Wire::new(Kind::Pipe, &scratch),
    );
    let (reader, feeder) = source.fed(data(MIB));
    let running = copying(&reader, &destination.writer, CopyOptions::new());
    running.stalled();
    thread::sleep(Duration::from_secs(4));
    running.abort();
    let tx = running.result().tx;
    assert!(tx > 0 && tx < MIB as u64);
    drop(reader);
    // The feeder fails when the reader is closed, which does not matter here.
    let _ = feeder.join();
}
