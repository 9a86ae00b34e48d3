//! Stored receipts: one for each receipt type, thread and user, which only moves forward.
//!
//! Concurrent writers are possible (two devices, a device and federation). Must not write a row without a fence on
//! the rows that the decision was based on.

use ruma::{EventId, RoomId};
use weft_store::{
    Batch, CommitError,
    tables::receipts::{RECEIPT_STREAM, RECEIPT_THREADS, RECEIPTS, ReceiptChange, ReceiptRow, ReceiptThreads},
};
use weft_wire::limits::{MAX_EVENT_FIELD_BYTES, MAX_RECEIPT_THREADS};

use super::{Ephemeral, Inner, Receipt, ReceiptError};

/// The thread of events outside of all threads.
const MAIN: &str = "main";

/// How often a receipt is tried again after other receipts of the same user were committed first.
const MAX_ATTEMPTS: usize = 64;

/// Whether this is a valid thread of a receipt: empty (unthreaded), `main`, or the id of a thread's root event.
pub(super) fn is_thread(thread: &str) -> bool {
    thread.is_empty() || thread == MAIN || EventId::parse(thread).is_ok_and(|id| is_short(&id))
}

/// Whether an id is at most as long as the specification allows: ids of other servers arrive unchecked.
pub(super) fn is_short(id: &EventId) -> bool {
    id.as_str().len() <= MAX_EVENT_FIELD_BYTES
}

impl Ephemeral {
    /// Stores a receipt; returns false if it is not new or would move the receipt back.
    pub(super) async fn store_receipt(&self, room: &RoomId, receipt: &Receipt) -> Result<bool, ReceiptError> {
        for _ in 1..MAX_ATTEMPTS {
            match self.try_store_receipt(room, receipt).await {
                // Another receipt of the user was committed in between, so there was progress: decide again.
                Err(ReceiptError::Commit(CommitError::Fence { .. })) => {}
                stored => return stored,
            }
        }
        self.try_store_receipt(room, receipt).await
    }

    async fn try_store_receipt(&self, room: &RoomId, receipt: &Receipt) -> Result<bool, ReceiptError> {
        let Inner {
            store,
            fanout,
            membership_view,
            ..
        } = &*self.inner;
        let key = (
            room.to_owned(),
            receipt.kind.clone(),
            receipt.thread.clone(),
            receipt.user.clone(),
        );
        let known = store.get(&RECEIPTS, &key).await?;
        if let Some(known) = &known
            && !self.is_ahead(room, &receipt.event, &known.event).await?
        {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.require(&RECEIPTS, &key, known.as_ref());
        let position = batch.reserve(store.positions_of(room), 1);
        match &known {
            Some(row) => batch.delete(&RECEIPT_STREAM, &(room.to_owned(), row.position)),
            None => self.note_thread(&mut batch, room, receipt).await?,
        }
        let row = ReceiptRow {
            event: receipt.event.clone(),
            at: receipt.at,
            position,
        };
        batch.put(&RECEIPTS, &key, &row);
        let (room_key, kind, thread, user) = key;
        batch.put(
            &RECEIPT_STREAM,
            &(room_key, position),
            &ReceiptChange { kind, thread, user },
        );
        store.commit(batch).await?;
        let members = membership_view.local_members(room).await;
        fanout.wake(members.iter().map(AsRef::as_ref), store.lane_of(room), position);
        Ok(true)
    }

    /// Whether an event comes after another in the room's timeline. An event that is not here yet counts as later:
    /// receipts of other servers may arrive before their events.
    async fn is_ahead(&self, room: &RoomId, event: &EventId, than: &EventId) -> Result<bool, ReceiptError> {
        if event == than {
            return Ok(false);
        }
        let reader = &self.inner.reader;
        let (event, than) = tokio::try_join!(reader.order(room, event), reader.order(room, than))?;
        Ok(match (event, than) {
            (Some(event), Some(than)) => event > than,
            (None, _) | (_, None) => true,
        })
    }

    /// Records a thread that is new to the user's receipts. The oldest thread is dropped if there are too many.
    async fn note_thread(&self, batch: &mut Batch, room: &RoomId, receipt: &Receipt) -> Result<(), ReceiptError> {
        if receipt.thread.is_empty() || receipt.thread == MAIN {
            return Ok(());
        }
        let store = &self.inner.store;
        let owner = (room.to_owned(), receipt.user.clone());
        let before = store.get(&RECEIPT_THREADS, &owner).await?;
        batch.require(&RECEIPT_THREADS, &owner, before.as_ref());
        let ReceiptThreads(mut threads) = before.unwrap_or_default();
        while threads.len() >= MAX_RECEIPT_THREADS {
            let (kind, thread) = threads.remove(0);
            let key = (room.to_owned(), kind, thread, receipt.user.clone());
            if let Some(row) = store.get(&RECEIPTS, &key).await? {
                batch.delete(&RECEIPT_STREAM, &(room.to_owned(), row.position));
                batch.require(&RECEIPTS, &key, Some(&row));
                batch.delete(&RECEIPTS, &key);
            }
        }
        threads.push((receipt.kind.clone(), receipt.thread.clone()));
        batch.put(&RECEIPT_THREADS, &owner, &ReceiptThreads(threads));
        Ok(())
    }
}
