//! Counts and times the calls of one seam. Must not know what a call does.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use tokio::time::Instant;

/// The result of a call, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// It succeeded.
    Ok,
    /// It returned an error.
    Failed,
    /// The caller stopped waiting.
    Cancelled,
}

impl Outcome {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Ok } else { Self::Failed }
    }
}

/// The labels of the counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) operation: &'static str,
    pub(crate) outcome: Outcome,
}

/// The labels of the histogram.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OperationLabels {
    pub(crate) operation: &'static str,
}

/// The metrics of one seam. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    pub(crate) count: Family<CallLabels, Counter>,
    pub(crate) seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
}

/// Upper bounds of the histograms: from a read in memory to a request to a slow server.
const BOUNDS: [f64; 12] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0,
];

fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            count: Family::default(),
            seconds: Family::new_with_constructor(histogram as fn() -> Histogram),
        }
    }
}

impl Calls {
    /// Measures a call until [`Call::ended`], or until it is dropped: then it was cancelled.
    pub(crate) fn begin(&self, operation: &'static str) -> Call<'_> {
        Call {
            calls: self,
            operation,
            began: Instant::now(),
            outcome: Outcome::Cancelled,
        }
    }

    /// Measures a call that returns a result.
    pub(crate) async fn measure<T, E>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let under_way = self.begin(operation);
        let result = call.await;
        under_way.ended(Outcome::of(&result));
        result
    }
}

/// A call that is being measured.
#[must_use]
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    operation: &'static str,
    began: Instant,
    outcome: Outcome,
}

impl Call<'_> {
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let (operation, outcome) = (self.operation, self.outcome);
        let seconds = self.began.elapsed().as_secs_f64();
        self.calls.count.get_or_create(&CallLabels { operation, outcome }).inc();
        self.calls
            .seconds
            .get_or_create(&OperationLabels { operation })
            .observe(seconds);
    }
}
