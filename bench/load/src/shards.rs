//! Shards: threads that share nothing, each with its own event loop and its part of the connections.

use std::{io, thread};

use tokio::runtime::{Builder, Runtime};

pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs `work` for each input in a separate thread; returns the results in order, or the first error.
pub(crate) fn each<I: Send, O: Send>(
    inputs: Vec<I>,
    work: impl Fn(usize, I) -> io::Result<O> + Sync,
) -> io::Result<Vec<O>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = inputs
            .into_iter()
            .enumerate()
            .map(|(index, input)| scope.spawn(move || work(index, input)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
            })
            .collect()
    })
}

/// The share of `total` for shard `index` of `shards`.
pub(crate) fn share(total: usize, index: usize, shards: usize) -> usize {
    total / shards + usize::from(index < total % shards)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_differ_by_at_most_one_and_add_up() {
        let shares: Vec<_> = (0..4).map(|index| share(10, index, 4)).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
    }
}
