// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long connects took, counted without a lock.

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A histogram without the lock that the crate's own takes at each observation.
///
/// The count is the sum of the buckets, so that these two always agree; the sum of the seconds may be one observation
/// ahead or behind.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(Arc<DurationCounts>);

#[derive(Debug, Default)]
struct DurationCounts {
    /// One for each upper bound, and the rest.
    buckets: [AtomicU64; CONNECT_SECONDS.len() + 1],
    micros: AtomicU64,
}

impl Durations {
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = CONNECT_SECONDS.partition_point(|bound| *bound < seconds);
        self.0.buckets[at].fetch_add(1, Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.micros.fetch_add(micros, Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.0.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        let bounds = CONNECT_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let micros = Duration::from_micros(self.0.micros.load(Relaxed));
        encoder.encode_histogram::<NoLabelSet>(
            micros.as_secs_f64(),
            counts.iter().sum(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

/// From 0.1 ms, a pod on this host, to 4 s, the default limit of all attempts together.
const CONNECT_SECONDS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.0, 4.0];
