//! Wakes the federation sender for committed events of other servers. Must not read the events: the sender's outbox has
//! them.

use std::sync::Arc;

use weft_federation::outbox::{OutboxStore, Sender};
use weft_room_api::{Changes, Delivery};

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

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use async_trait::async_trait;
    use bytes::Bytes;
    use ruma::{
        MilliSecondsSinceUnixEpoch, OwnedServerName, RoomId, ServerName, event_id, owned_server_name, owned_user_id,
        room_id,
    };
    use serde_json::value::{RawValue, to_raw_value};
    use tokio::sync::mpsc;
    use weft_federation::SystemClock;
    use weft_federation::outbox::{OutboxError, Retry, Row, SenderConfig, Transport, queue::SendFailure};
    use weft_room_api::{ChangeBus as _, Interest, LiveEdit, LocalBus, RoomChange};
    use weft_store::Lane;

    use super::*;

    /// Rows for one server.
    #[derive(Default)]
    struct Rows(Mutex<Vec<Row>>);

    #[async_trait]
    impl OutboxStore for Rows {
        async fn pending(&self, _: &ServerName, after: u64, limit: usize) -> Result<Vec<Row>, OutboxError> {
            let rows = self.0.lock().unwrap();
            let pending = rows.iter().filter(|row| row.position > after);
            Ok(pending.take(limit).cloned().collect())
        }

        async fn acknowledge(&self, _: &ServerName, rows: &[u64]) -> Result<(), OutboxError> {
            self.0.lock().unwrap().retain(|row| !rows.contains(&row.position));
            Ok(())
        }

        async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError> {
            let is_empty = self.0.lock().unwrap().is_empty();
            Ok((!is_empty)
                .then(|| owned_server_name!("b.example"))
                .into_iter()
                .collect())
        }

        async fn is_in(&self, _: &ServerName, _: &RoomId) -> bool {
            true
        }

        async fn load_retry(&self, _: &ServerName) -> Result<Option<Retry>, OutboxError> {
            Ok(None)
        }

        async fn save_retry(&self, _: &ServerName, _: Option<Retry>) -> Result<(), OutboxError> {
            Ok(())
        }
    }

    /// Reports the number of events of each transaction.
    struct Delivered(mpsc::UnboundedSender<usize>);

    #[async_trait]
    impl Transport for Delivered {
        async fn deliver(
            &self,
            _: &ServerName,
            _: &str,
            pdus: Vec<Box<RawValue>>,
            _: Vec<Box<RawValue>>,
            _: MilliSecondsSinceUnixEpoch,
        ) -> Result<(), SendFailure> {
            self.0.send(pdus.len()).unwrap();
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_missed_changes_the_servers_with_rows_are_sent_to() {
        let (rows, (delivered, mut deliveries)) = (Arc::new(Rows::default()), mpsc::unbounded_channel());
        let config = SenderConfig {
            sweep: Duration::from_secs(1_000_000),
            ..SenderConfig::default()
        };
        let sender = Sender::start(
            config,
            Arc::new(Delivered(delivered)),
            rows.clone(),
            Arc::new(SystemClock),
        );
        // The sweep at the start finds nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let bus = LocalBus::new();
        let changes = bus.subscribe(Interest::OtherServers);
        rows.0.lock().unwrap().push(Row {
            position: 1,
            event_id: event_id!("$event").to_owned(),
            pdu: to_raw_value(&1).unwrap(),
        });
        // More than the bus keeps for a subscriber.
        let edit = LiveEdit {
            update: Bytes::from(vec![0; 40 * 1024 * 1024]),
            author: owned_user_id!("@alice:a.example"),
            session: None,
            version: 1,
        };
        bus.publish(Arc::new(RoomChange {
            edits: vec![edit],
            destinations: vec![owned_server_name!("elsewhere.example")],
            ..RoomChange::new(room_id!("!room:a.example"), Lane::FIRST)
        }));
        bus.close();
        wake_sender(changes, sender.clone(), rows.clone()).await;
        assert_eq!(deliveries.recv().await, Some(1));
        sender.stop(Duration::from_secs(10)).await;
        assert!(rows.0.lock().unwrap().is_empty());
    }
}
