//! Percentiles of round-trip times. Every sample is kept: a run makes at most a few million.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u64>);

impl FromIterator<Samples> for Samples {
    fn from_iter<T: IntoIterator<Item = Samples>>(parts: T) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).collect())
    }
}

/// In microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Samples {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0
            .push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// `None` without a sample.
    pub(crate) fn percentiles(mut self) -> Option<Percentiles> {
        self.0.sort_unstable();
        let max = microseconds(*self.0.last()?);
        Some(Percentiles {
            p50: self.per_mille(500),
            p99: self.per_mille(990),
            p999: self.per_mille(999),
            max,
        })
    }

    /// The nearest rank of the samples, which must be sorted and not empty.
    fn per_mille(&self, part: usize) -> f64 {
        let rank = (self.0.len() * part).div_ceil(1000).max(1);
        microseconds(self.0[rank - 1])
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a round trip are far below 2^53"
)]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let mut samples = Samples::default();
        for time in (1..=1000).rev() {
            samples.add(Duration::from_micros(time));
        }
        let Percentiles {
            p50,
            p99,
            p999,
            max,
        } = samples.percentiles().unwrap();
        let found = [p50, p99, p999, max].map(|time| format!("{time}"));
        assert_eq!(found, ["500", "990", "999", "1000"]);
    }

    #[test]
    fn one_sample_is_every_percentile_and_none_has_no_percentile() {
        let mut samples = Samples::default();
        assert!(Samples::default().percentiles().is_none());
        samples.add(Duration::from_nanos(1500));
        let Percentiles { p50, p999, .. } = samples.percentiles().unwrap();
        assert_eq!([p50, p999].map(|time| format!("{time}")), ["1.5", "1.5"]);
    }
}
