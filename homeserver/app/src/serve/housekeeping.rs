//! What is done again and again while the server runs: forgetting who types, looks on or is there no more.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use weft_fanout::{Awareness, Ephemeral, Presence};

/// Fine enough for people: nobody sees whether a cursor goes a second later.
const PERIOD: Duration = Duration::from_secs(1);

/// Starts it; ends when the handle is aborted.
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
