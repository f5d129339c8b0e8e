//! A relay of splice(2) in a loop, through a pipe of 1 MiB for each direction.

fn main() -> std::io::Result<()> {
    fdsplice_bench_peers::bare::relay(fdsplice_bench_peers::bare::splice_all)
}
