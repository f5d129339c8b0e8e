//! What no relay of bulk can do with less than: everything received into `/dev/null`, as much sent from a memfd.

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
