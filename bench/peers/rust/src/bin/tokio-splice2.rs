//! `tokio_splice2::copy_bidirectional` as its documentation shows it.

fn main() -> std::io::Result<()> {
    fdsplice_bench_peers::serve(|mut client, mut upstream| {
        Ok(async move {
            let traffic = tokio_splice2::copy_bidirectional(&mut client, &mut upstream).await?;
            traffic.into_result()?;
            Ok(())
        })
    })
}
