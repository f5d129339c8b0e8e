//! One of the two halves of `floor` and of its two sockets: up, everything is received into `/dev/null`; down, sent from a memfd.

use clap::Parser;
use fdsplice_bench_peers::{
    Addresses,
    bare::accept,
    bulk::{Request, half},
};

fn main() -> std::io::Result<()> {
    let Addresses { listen, .. } = Addresses::parse();
    accept(listen, (), |client, ()| {
        let request = Request::read(&client)?;
        half(client, request)
    })
}
