//! The task that wakes webhooks: each second it looks which rooms have new events, by the positions that the store has anyway.
//!
//! Must not deliver anything, and need not find everything: a webhook reads what is new by itself.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ruma::OwnedUserId;
use weft_room_api::Unavailable;
use weft_store::VisiblePositions;

use crate::Inner;

/// How often new events are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Events of one turn. If there are more, all webhooks are woken.
const MAX_EVENTS: usize = 5_000;

/// Runs until it is dropped.
pub(crate) async fn follow(inner: Arc<Inner>) {
    let mut known = inner.reader.visible_positions();
    inner.registry.lock().wake_all();
    loop {
        tokio::time::sleep(TICK).await;
        let now = inner.reader.visible_positions();
        if now == known {
            continue;
        }
        if let Err(error) = turn(&inner, &known, &now).await {
            tracing::warn!(event = "webhooks.not_followed", %error, "new events can't be read; all webhooks are woken");
            inner.registry.lock().wake_all();
        }
        known = now;
    }
}

async fn turn(inner: &Inner, known: &VisiblePositions, now: &VisiblePositions) -> Result<(), Unavailable> {
    let Some(moved) = inner.reader.moved(now.since(known), MAX_EVENTS).await? else {
        inner.registry.lock().wake_all();
        return Ok(());
    };
    let mut users: BTreeSet<OwnedUserId> = BTreeSet::new();
    if inner.registry.lock().has_users() {
        for room in moved.keys() {
            users.extend(inner.reader.local_members(room).await?);
        }
    }
    inner.registry.lock().moved(moved.into_keys(), &users, (known, now));
    Ok(())
}
