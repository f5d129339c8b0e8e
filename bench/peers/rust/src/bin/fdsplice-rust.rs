//! `fdsplice::relay` on the sockets of tokio's accept and connect, as they are registered.

use fdsplice::RelayOptions;

fn main() -> std::io::Result<()> {
    // Both sockets have TCP_NODELAY already.
    fdsplice_bench_peers::serve(|client, upstream| {
        let options = RelayOptions::new().set_nodelay(false);
        Ok(fdsplice::relay(client, upstream, options))
    })
}
