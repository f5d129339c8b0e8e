//! Descriptors of connects that were given up. One test in its process, because it counts them.

mod connect_support;

use std::net::TcpListener;
use std::time::Duration;

use connect_support::Silent;
use fdsplice_server::{Target, connect};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

#[tokio::test]
async fn a_connect_that_is_dropped_or_fails_leaves_no_descriptor() {
    let silent = Silent::new("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let free = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let nobody = free.local_addr().expect("its address");
    drop(free);
    let before = descriptors();
    for round in 0..300 {
        let text = match round % 3 {
            0 => silent.address().to_string(),
            1 => format!("localhost:{port}"),
            _ => nobody.to_string(),
        };
        let target: Target = text.parse().expect("a target");
        let limit = Duration::from_micros(round * 10);
        let _ = tokio::time::timeout(limit, connect(&target)).await;
        if round % 3 == 1 {
            listener.set_nonblocking(true).expect("an option");
            while listener.accept().is_ok() {}
        }
    }
    assert_eq!(descriptors(), before);
}
