//! Wakes the federation sender for committed events of other servers. Must not read the events: the sender's outbox has
//! them.

use std::sync::Arc;

use weft_federation::outbox::{OutboxStore, Sender};
use weft_room::{Changes, Delivery};

/// Wakes the sender for each change until the bus is closed.
pub(crate) async fn wake_sender(mut changes: Changes, sender: Sender, outbox: Arc<dyn OutboxStore>) {
    while let Some(delivery) = changes.next().await {
        match delivery {
            Delivery::Change(change) => sender.wake(&change.destinations),
            Delivery::Missed(_) => match outbox.backlog().await {
                Ok(servers) => sender.wake(&servers),
                // The sender also looks for undelivered rows at intervals.
                Err(error) => tracing::error!(event = "outbox.read_failed", %error, "the outbox can't be read"),
            },
        }
    }
}
