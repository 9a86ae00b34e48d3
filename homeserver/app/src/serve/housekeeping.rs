//! Periodic tasks: expires typing notifications, awareness states and presence, and documents in the bin. Must not decide their
//! lifetimes.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use weft_fanout::{Awareness, Ephemeral, Presence};
use weft_gateway::documents::{DocumentPorts, remove_expired};
use weft_room_api::{Clock as _, SystemClock};

/// Interval of the tasks. A second is precise enough for a cursor that disappears.
const PERIOD: Duration = Duration::from_secs(1);

/// Interval of the search for documents that were in the bin for long, which reads a few rows of each document.
const BIN_PERIOD: Duration = Duration::from_secs(6 * 60 * 60);
/// When it is first made: after the work of the start.
const BIN_FIRST: Duration = Duration::from_secs(10 * 60);
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Starts the periodic tasks. They end when the handle is aborted.
pub(super) fn start(awareness: Awareness, ephemeral: Ephemeral, presence: Presence) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            awareness.expire();
            ephemeral.expire().await;
            presence.expire().await;
        }
    })
}

/// Removes documents that were in the bin for so many days; 0: never. Ends when the handle is aborted.
pub(super) fn empty_bin(documents: DocumentPorts, days: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        if days == 0 {
            return;
        }
        let first = tokio::time::Instant::now() + BIN_FIRST;
        let mut ticks = tokio::time::interval_at(first, BIN_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let now = u64::from(SystemClock.now().get());
            let before = now.saturating_sub(days.saturating_mul(DAY_MS));
            match remove_expired(&documents, before).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "documents in the bin were removed"),
                Err(error) => tracing::debug!(error = error.message(), "the bin was not looked through"),
            }
        }
    })
}
