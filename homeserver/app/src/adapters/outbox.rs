//! The outbox in the store: rows that the rooms' commits wrote, in stream order. Must not reorder or drop rows.

use async_trait::async_trait;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, RoomId, ServerName, UInt};
use serde_json::value::RawValue;
use weft_federation::outbox::{OutboxError, OutboxStore, Retry, Row};
use weft_room::Reader;
use weft_store::{
    Batch, Store,
    tables::federation::{OUTBOX, OUTBOX_SERVERS, OUTBOX_STATE, OutboxState},
};

/// Implements federation's outbox with the tables.
pub(crate) struct StoredOutbox {
    pub(crate) store: Store,
    pub(crate) reader: Reader,
}

#[async_trait]
impl OutboxStore for StoredOutbox {
    async fn pending(&self, server: &ServerName, after: u64, limit: usize) -> Result<Vec<Row>, OutboxError> {
        let query = OUTBOX.under(&(server,)).after(&(server, after)).limit(limit);
        let found = self.store.scan(query).await.map_err(failed)?;
        let mut rows = Vec::with_capacity(found.len());
        for ((_, position), row) in found {
            let event = self.reader.event(Some(&row.room), &row.event).await.map_err(failed)?;
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

    async fn acknowledge(&self, server: &ServerName, through: u64) -> Result<(), OutboxError> {
        let query = OUTBOX.under(&(server,)).through(&(server, through));
        let mut batch = Batch::new();
        for (key, _) in self.store.scan_all(query).await.map_err(failed)? {
            batch.delete(&OUTBOX, &key);
        }
        #[cfg(debug_assertions)]
        fail::fail_point!("outbox::before_forget");
        self.store.commit(batch).await.map_err(failed)?;
        #[cfg(debug_assertions)]
        fail::fail_point!("outbox::forgotten");
        Ok(())
    }

    async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError> {
        let mut behind = Vec::new();
        for ((server,), ()) in self.store.scan_all(OUTBOX_SERVERS.under(&())).await.map_err(failed)? {
            let first = self
                .store
                .scan(OUTBOX.under(&(&server,)).limit(1))
                .await
                .map_err(failed)?;
            if !first.is_empty() {
                behind.push(server);
            }
        }
        Ok(behind)
    }

    async fn is_in(&self, server: &ServerName, room: &RoomId) -> bool {
        let servers = self.reader.servers_in(room).await;
        servers.is_ok_and(|servers| servers.contains(server))
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

fn time(millis: u64) -> Result<MilliSecondsSinceUnixEpoch, OutboxError> {
    UInt::try_from(millis).map(MilliSecondsSinceUnixEpoch).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> OutboxError {
    OutboxError(error.to_string())
}
