//! Copies between the sockets and pipes of tokio, and between them and files.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use fdsplice::{CopyOptions, Endpoint, Reason, Side, copy};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream, UnixStream};

const BYTES: usize = 3 << 20;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn bytes() -> Vec<u8> {
    (0..251).cycle().take(BYTES).collect()
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (outer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (outer.expect("a connection"), accepted.expect("a peer").0)
}

#[test]
fn a_borrowed_pipe_to_a_borrowed_socket_and_back_to_a_pipe() {
    runtime().block_on(async {
        let (mut filler, mut first) = pipe::pipe().expect("a pipe");
        let (mut inner, mut outer) = connected().await;
        let (mut last, mut drain) = pipe::pipe().expect("a pipe");
        let sent = bytes();
        let mut received = Vec::new();
        let (there, back, (), _) = tokio::join!(
            async {
                let copied = copy(&mut first, &mut inner, CopyOptions::new()).await;
                inner.shutdown().await.expect("a shutdown");
                copied
            },
            async {
                let copied = copy(&mut outer, &mut last, CopyOptions::new()).await;
                drop(last);
                copied
            },
            async {
                filler.write_all(&sent).await.expect("a write");
                drop(filler);
            },
            async { drain.read_to_end(&mut received).await.expect("an end") },
        );
        assert!(there.error.is_none() && back.error.is_none());
        assert_eq!((there.tx, back.tx), (BYTES as u64, BYTES as u64));
        assert!(received == sent);
    });
}

#[test]
fn a_length_leaves_the_rest_to_the_owner_of_a_borrowed_socket() {
    runtime().block_on(async {
        let (mut outer, mut inner) = connected().await;
        let (mut out, mut seen) = UnixStream::pair().expect("a pair of sockets");
        outer.write_all(b"headbody").await.expect("a write");
        let options = CopyOptions::new().length(4);
        let copied = copy(&mut inner, &mut out, options).await;
        assert!(copied.error.is_none() && copied.tx == 4, "{copied:?}");
        let mut part = [0; 4];
        seen.read_exact(&mut part).await.expect("a read");
        assert_eq!(&part, b"head");
        inner.read_exact(&mut part).await.expect("a read");
        assert_eq!(&part, b"body");
    });
}

/// The calls on a file run on another thread, to which nothing can be lent.
#[test]
fn a_borrowed_socket_to_a_file_and_a_file_to_a_borrowed_socket() {
    runtime().block_on(async {
        let mut file = File::from(memfd_create("copy-ends", MemfdFlags::CLOEXEC).expect("a memfd"));
        let (mut outer, mut inner) = connected().await;
        let sent = bytes();
        let endpoint = || Endpoint::duplicate(&file).expect("an endpoint");
        let (copied, ()) = tokio::join!(copy(&mut inner, endpoint(), CopyOptions::new()), async {
            outer.write_all(&sent).await.expect("a write");
            outer.shutdown().await.expect("a shutdown");
        });
        assert!(
            copied.error.is_none() && copied.tx == BYTES as u64,
            "{copied:?}"
        );
        let options = CopyOptions::new().start(0).end_destination(true);
        let mut received = Vec::new();
        let (copied, _) = tokio::join!(copy(endpoint(), &mut inner, options), async {
            outer.read_to_end(&mut received).await.expect("an end")
        });
        assert!(
            copied.error.is_none() && copied.tx == BYTES as u64,
            "{copied:?}"
        );
        assert!(received == sent);
        file.rewind().expect("a file");
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).expect("a read");
        assert!(stored == sent);
        file.write_all(b"still open").expect("a write");
    });
}

#[test]
fn a_pipe_whose_reader_is_gone_fails_a_copy_from_a_silent_socket() {
    runtime().block_on(async {
        let (_outer, mut inner) = connected().await;
        let (mut sender, receiver) = pipe::pipe().expect("a pipe");
        let limit = Duration::from_secs(30);
        let copying =
            tokio::time::timeout(limit, copy(&mut inner, &mut sender, CopyOptions::new()));
        let (copied, ()) = tokio::join!(copying, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(receiver);
        });
        let error = copied.expect("an end").error.expect("a failure");
        assert_eq!(error.side, Some(Side::Destination));
        let is_broken =
            matches!(error.reason, Reason::System { errno, .. } if errno == Errno::PIPE);
        assert!(is_broken, "{error}");
    });
}

#[test]
fn an_end_of_a_pipe_in_the_wrong_role_is_refused() {
    runtime().block_on(async {
        let (mut sender, mut receiver) = pipe::pipe().expect("a pipe");
        let copied = copy(&mut sender, &mut receiver, CopyOptions::new()).await;
        let error = copied.error.expect("a refusal");
        assert_eq!(error.side, Some(Side::Source));
        let is_refused =
            matches!(error.reason, Reason::System { errno, .. } if errno == Errno::BADF);
        assert!(is_refused, "{error}");
        assert_eq!(copied.tx, 0);
    });
}

#[test]
fn both_ends_of_one_pipe_and_one_socket_twice_are_refused() {
    runtime().block_on(async {
        let limit = Duration::from_secs(10);
        let (mut sender, mut receiver) = pipe::pipe().expect("a pipe");
        sender.write_all(b"own output").await.expect("a write");
        let copying = copy(&mut receiver, &mut sender, CopyOptions::new());
        let pipe = tokio::time::timeout(limit, copying).await;
        let (mut outer, mut inner) = connected().await;
        outer.write_all(b"echo").await.expect("a write");
        let duplicate = Endpoint::duplicate(&inner).expect("an endpoint");
        let copying = copy(&mut inner, duplicate, CopyOptions::new());
        let socket = tokio::time::timeout(limit, copying).await;
        for copied in [pipe, socket] {
            let copied = copied.expect("an end");
            let error = copied.error.expect("a refusal");
            let is_refused =
                matches!(error.reason, Reason::System { errno, .. } if errno == Errno::INVAL);
            assert!(is_refused, "{error}");
            assert_eq!(copied.tx, 0);
        }
    });
}

/// Such a copy would read its own output without end.
#[test]
fn both_ends_of_one_pipe_are_refused_in_every_form() {
    let is_refused = |copied: fdsplice::TrafficResult| {
        let error = copied.error.expect("a refusal");
        assert_eq!(error.side, Some(Side::Destination));
        matches!(error.reason, Reason::System { errno, .. } if errno == Errno::INVAL)
    };
    runtime().block_on(async {
        let (mut sender, mut receiver) = pipe::pipe().expect("a pipe");
        sender.write_all(b"round and round").await.expect("a write");
        let limit = Duration::from_secs(5);
        let of_sender = Endpoint::duplicate(&sender).expect("an endpoint");
        let of_receiver = Endpoint::duplicate(&receiver).expect("an endpoint");
        let options = CopyOptions::new;
        let copied = tokio::time::timeout(limit, copy(&mut receiver, &mut sender, options())).await;
        assert!(is_refused(copied.expect("an end")));
        let copied = tokio::time::timeout(limit, copy(of_receiver, &mut sender, options())).await;
        assert!(is_refused(copied.expect("an end")));
        let copied = tokio::time::timeout(limit, copy(&mut receiver, of_sender, options())).await;
        assert!(is_refused(copied.expect("an end")));
        // Two pipes are fine.
        let (_writer, mut other) = pipe::pipe().expect("a pipe");
        let copied = copy(&mut other, &mut sender, options().length(0)).await;
        assert!(copied.error.is_none(), "{copied:?}");
    });
}
