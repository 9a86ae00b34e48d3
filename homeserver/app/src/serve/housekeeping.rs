//! Periodic tasks: expires typing notifications, awareness states and presence. Must not decide their lifetimes.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use weft_fanout::{Awareness, Ephemeral, Presence};

/// Interval of the tasks. A second is precise enough for a cursor that disappears.
const PERIOD: Duration = Duration::from_secs(1);

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
