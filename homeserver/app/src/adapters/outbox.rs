//! The outbox in the store: rows that the rooms' commits wrote, in the order of their positions in each lane. Must not
//! reorder or drop rows: a row is returned only when no earlier one of its lane can still be written.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, RoomId, ServerName, UInt};
use serde_json::value::RawValue;
use weft_federation::outbox::{OutboxError, OutboxStore, Retry, Row};
use weft_room_read::Reader;
use weft_store::{
    Batch, Lane, Lanes, Store,
    tables::federation::{OUTBOX, OUTBOX_SERVERS, OUTBOX_STATE, OutboxState, outbox_place},
};

/// How long a read waits for commits that are under way. They take milliseconds unless the disk is stuck.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// Outboxes that are looked at at a time at the start.
const SERVERS_AT_ONCE: usize = 64;

/// Implements federation's outbox with the tables.
pub(crate) struct StoredOutbox {
    pub(crate) store: Store,
    pub(crate) reader: Reader,
}

#[async_trait]
impl OutboxStore for StoredOutbox {
    async fn pending(&self, server: &ServerName, after: u64, limit: usize) -> Result<Vec<Row>, OutboxError> {
        let decided = tokio::time::timeout(SETTLED_WITHIN, self.decided()).await;
        let decided = decided.map_err(|_| failed("a commit takes too long"))?;
        let of_server = || OUTBOX.under(&(server,));
        let mut found = self
            .store
            .scan(of_server().after(&(server, after)).limit(limit))
            .await
            .map_err(failed)?;
        if self.store.lanes() != Lanes::ONE && found.len() < limit {
            // The other lanes in turn. In one lane, rows at or below `after` were delivered.
            let again = of_server().through(&(server, after)).limit(limit - found.len());
            found.extend(self.store.scan(again).await.map_err(failed)?);
        }
        let is_decided = |number| {
            let (lane, position) = outbox_place(number);
            decided.get(&lane).is_some_and(|last| position <= *last)
        };
        found.retain(|((_, number), _)| is_decided(*number));
        let reader = self.reader.for_request();
        let events: Vec<_> = found
            .iter()
            .map(|(_, row)| reader.event(Some(&row.room), &row.event))
            .collect();
        let events = try_join_all(events).await.map_err(failed)?;
        let mut rows = Vec::with_capacity(found.len());
        for (((_, position), row), event) in found.into_iter().zip(events) {
            // Row and event were written by one commit. If the event is missing, the store is damaged, and sending the
            // rest would leave an unnoticed gap.
            let event =
                event.ok_or_else(|| failed(format!("event {} of the outbox is not in the store", row.event)))?;
            let pdu = RawValue::from_string(event.json().to_owned()).map_err(failed)?;
            rows.push(Row {
                position,
                event_id: row.event,
                pdu,
            });
        }
        Ok(rows)
    }

    async fn acknowledge(&self, server: &ServerName, rows: &[u64]) -> Result<(), OutboxError> {
        let mut batch = Batch::new();
        for number in rows {
            batch.delete(&OUTBOX, &(server, *number));
        }
        #[cfg(debug_assertions)]
        fail::fail_point!("outbox::before_forget");
        self.store.commit(batch).await.map_err(failed)?;
        #[cfg(debug_assertions)]
        fail::fail_point!("outbox::forgotten");
        Ok(())
    }

    async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError> {
        let servers = self.store.scan_all(OUTBOX_SERVERS.under(&())).await.map_err(failed)?;
        let first = |server: OwnedServerName| async move {
            let rows = self
                .store
                .scan(OUTBOX.under(&(&server,)).limit(1))
                .await
                .map_err(failed)?;
            Ok((!rows.is_empty()).then_some(server))
        };
        let firsts = servers.into_iter().map(|((server,), ())| first(server));
        let behind = stream::iter(firsts).buffered(SERVERS_AT_ONCE);
        behind.try_filter_map(async |server| Ok(server)).try_collect().await
    }

    async fn is_in(&self, server: &ServerName, room: &RoomId) -> bool {
        self.reader.has_server(room, server).await.unwrap_or(false)
    }

    async fn load_retry(&self, server: &ServerName) -> Result<Option<Retry>, OutboxError> {
        let row = self.store.get(&OUTBOX_STATE, &(server,)).await.map_err(failed)?;
        row.map(|row| {
            Ok(Retry {
                failing_since: time(row.failing_since)?,
                until: time(row.retry_at)?,
            })
        })
        .transpose()
    }

    async fn save_retry(&self, server: &ServerName, retry: Option<Retry>) -> Result<(), OutboxError> {
        let mut batch = Batch::new();
        match retry {
            Some(retry) => {
                let row = OutboxState {
                    failing_since: retry.failing_since.get().into(),
                    retry_at: retry.until.get().into(),
                };
                batch.put(&OUTBOX_STATE, &(server,), &row);
            }
            None => batch.delete(&OUTBOX_STATE, &(server,)),
        }
        self.store.commit(batch).await.map_err(failed)
    }
}

impl StoredOutbox {
    /// Of each lane, the last position that was reserved before the call. All up to it are decided when this returns: rooms
    /// commit concurrently, so a row may be on disk before one with a lower position. A lost lane is left out.
    async fn decided(&self) -> BTreeMap<Lane, u64> {
        let mut decided = BTreeMap::new();
        for positions in self.store.positions().iter() {
            if let Some(last) = positions.settled().await {
                decided.insert(positions.lane(), last);
            }
        }
        decided
    }
}

fn time(millis: u64) -> Result<MilliSecondsSinceUnixEpoch, OutboxError> {
    UInt::try_from(millis).map(MilliSecondsSinceUnixEpoch).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> OutboxError {
    OutboxError(error.to_string())
}
