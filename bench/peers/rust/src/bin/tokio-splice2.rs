//! `tokio_splice2::copy_bidirectional` as its documentation shows it.

fn main() -> std::io::Result<()> {
    fdsplice_bench_peers::serve(|mut client, mut upstream| {
        Ok(async move {
            let traffic = tokio_splice2::copy_bidirectional(&mut client, &mut upstream).await?;
            // Not printed, because the error of a reset cannot be told from others: it has no kind.
            let _ = traffic.into_result();
            Ok(())
        })
    })
}
