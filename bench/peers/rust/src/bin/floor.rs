//! The minimum of a bulk relay: receives everything into `/dev/null` and sends as much from a memfd.

use clap::Parser;
use fdsplice_bench_peers::{
    Addresses,
    bare::{accept, connect},
    bulk::{Request, relay},
};

fn main() -> std::io::Result<()> {
    let Addresses { listen, target } = Addresses::parse();
    accept(listen, target, |client, target| {
        let request = Request::read(&client)?;
        relay(client, connect(target)?, request)
    })
}
