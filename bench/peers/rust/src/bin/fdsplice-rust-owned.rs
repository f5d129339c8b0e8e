//! `fdsplice::relay` on descriptors that it owns.

use fdsplice::RelayOptions;
use fdsplice_bench_peers::{ours::owned, serve};

fn main() -> std::io::Result<()> {
    serve(|client, upstream| {
        let (client, upstream) = (owned(client)?, owned(upstream)?);
        Ok(fdsplice::relay(client, upstream, RelayOptions::new()))
    })
}
