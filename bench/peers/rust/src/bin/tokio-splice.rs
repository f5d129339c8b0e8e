//! `tokio_splice::zero_copy_bidirectional` as its documentation shows it.

fn main() -> std::io::Result<()> {
    fdsplice_bench_peers::serve(|mut client, mut upstream| {
        Ok(async move {
            tokio_splice::zero_copy_bidirectional(&mut client, &mut upstream).await?;
            Ok(())
        })
    })
}
