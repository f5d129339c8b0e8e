//! `tokio::io::copy_bidirectional` with buffers of 8 KiB, its default size.

const BUFFER: usize = 8 * 1024;

fn main() -> std::io::Result<()> {
    fdsplice_bench_peers::serve(|mut client, mut upstream| {
        Ok(async move {
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER)
                .await?;
            Ok(())
        })
    })
}
