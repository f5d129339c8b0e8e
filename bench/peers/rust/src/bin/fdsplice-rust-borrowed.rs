//! `fdsplice::relay` on borrowed tokio sockets.

use fdsplice::RelayOptions;

fn main() -> std::io::Result<()> {
    // Both sockets have TCP_NODELAY already.
    fdsplice_bench_peers::serve(|mut client, mut upstream| {
        Ok(async move {
            let options = RelayOptions::new().set_nodelay(false);
            fdsplice::relay(&mut client, &mut upstream, options).await
        })
    })
}
