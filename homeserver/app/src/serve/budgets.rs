//! What is in use of each budget, in the log: when SIGUSR1 comes, and now and then at level debug. The place where metrics
//! will read it.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use weft_budget::Budgets;

/// Between two reports at level debug.
const PERIOD: Duration = Duration::from_secs(60);

/// Reports for as long as the server runs. Never ends.
pub(super) async fn report(budgets: Arc<Budgets>, mut asked: Signal) {
    loop {
        let asked = tokio::select! {
            signal = asked.recv() => signal.is_some(),
            () = tokio::time::sleep(PERIOD) => false,
        };
        for usage in budgets.snapshot() {
            let (name, limit, used, peak, refused) = (usage.name, usage.limit, usage.used, usage.peak, usage.refused);
            if asked {
                tracing::info!(name, limit, used, peak, refused, "budget");
            } else {
                tracing::debug!(name, limit, used, peak, refused, "budget");
            }
        }
    }
}
