//! Half of `floor`, with one socket: up it receives into `/dev/null`, down it sends from a memfd.

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
