//! Logs the usage of each budget: on SIGUSR1, and periodically at level debug. Must not change a budget.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use weft_budget::Budgets;

/// Interval of the reports at level debug.
const PERIOD: Duration = Duration::from_secs(60);

/// Reports while the server runs. Never returns.
pub(super) async fn report(budgets: Arc<Budgets>, mut requested: Signal) {
    loop {
        let requested = tokio::select! {
            signal = requested.recv() => signal.is_some(),
            () = tokio::time::sleep(PERIOD) => false,
        };
        for usage in budgets.snapshot() {
            let (name, limit, used, peak, refused) = (usage.name, usage.limit, usage.used, usage.peak, usage.refused);
            if requested {
                tracing::info!(name, limit, used, peak, refused, "budget");
            } else {
                tracing::debug!(name, limit, used, peak, refused, "budget");
            }
        }
    }
}
