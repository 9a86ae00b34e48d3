//! Typing (in memory) and read receipts (stored), local and federated, with the change positions that `/sync` needs.
//!
//! A server may send both only about its own users (T50, T51). This module decides who is notified; it must not
//! decide who may read the room.

mod receipts;
mod typing;

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedEventId, OwnedUserId, RoomId, ServerName, UserId};
use serde_json::json;
use weft_room_api::{Clock, Unavailable};
use weft_room_read::Reader;
use weft_store::{
    CommitError, ReadError, Store,
    tables::receipts::{RECEIPT_STREAM, RECEIPTS},
};

use self::typing::Typing;
use crate::{EduSink, Fanout, MembershipView};

/// A read receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// The thread id, `main`, or empty for an unthreaded receipt.
    pub thread: String,
    /// The user.
    pub user: OwnedUserId,
    /// The event up to which the user has read.
    pub event: OwnedEventId,
    /// The time in milliseconds since 1970.
    pub at: u64,
}

/// Why an EDU about typing or receipts is ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EphemeralRefused {
    /// Its user belongs to another server than the one that sent it.
    #[error("{user} is not a user of {origin}")]
    ForeignUser {
        /// The user of the EDU.
        user: OwnedUserId,
        /// The server that sent it.
        origin: String,
    },
    /// The user is not joined.
    #[error("{0} is not in the room")]
    NotJoined(OwnedUserId),
    /// A receipt's thread is neither `main` nor an event id.
    #[error("the receipt's thread is not valid")]
    NoThread,
    /// A receipt's event id is longer than the specification allows.
    #[error("the receipt's event id is too long")]
    LongId,
}

/// Why a receipt could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The store can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store can't be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The room can't be read.
    #[error(transparent)]
    Room(#[from] Unavailable),
    /// The EDU is refused.
    #[error(transparent)]
    Refused(#[from] EphemeralRefused),
}

/// Typing and receipts of all rooms. Cheap to clone.
#[derive(Clone)]
pub struct Ephemeral {
    inner: Arc<Inner>,
}

struct Inner {
    typing: Mutex<Typing>,
    store: Store,
    reader: Reader,
    fanout: Fanout,
    membership_view: Arc<dyn MembershipView>,
    edus: Arc<dyn EduSink>,
    clock: Arc<dyn Clock>,
}

impl Ephemeral {
    /// A new instance without typing users.
    #[must_use]
    pub fn new(
        store: Store,
        fanout: Fanout,
        membership_view: Arc<dyn MembershipView>,
        edus: Arc<dyn EduSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                typing: Mutex::default(),
                reader: Reader::new(store.clone()),
                store,
                fanout,
                membership_view,
                edus,
                clock,
            }),
        }
    }

    /// A user of this server starts (for `timeout_ms`) or stops (`None`) typing.
    pub async fn set_typing(&self, room: &RoomId, user: &UserId, timeout_ms: Option<u64>) {
        let servers = self.inner.membership_view.remote_servers(room);
        let ((), servers) = tokio::join!(self.change_typing(room, user, timeout_ms), servers);
        let content = json!({"room_id": room, "user_id": user, "typing": timeout_ms.is_some()});
        self.inner.edus.send(
            room,
            &servers,
            "m.typing",
            content,
            Some(format!("typing\0{room}\0{user}")),
        );
    }

    /// Applies a typing EDU of another server.
    ///
    /// # Errors
    /// When the user belongs to another server or is not joined.
    pub async fn typing_edu(
        &self,
        origin: &ServerName,
        room: &RoomId,
        user: &UserId,
        typing: bool,
    ) -> Result<(), EphemeralRefused> {
        self.check_user(origin, room, user).await?;
        self.change_typing(room, user, typing.then_some(typing::REMOTE_TIMEOUT_MS))
            .await;
        Ok(())
    }

    /// The typing users of a room, and a serial that changes with each change of the list (0: no user ever typed).
    #[must_use]
    pub fn typing(&self, room: &RoomId) -> (Vec<OwnedUserId>, u64) {
        self.typing_state().in_room(room)
    }

    /// The highest serial that [`Ephemeral::typing`] returns for any room at this moment. Read it before the rooms:
    /// concurrent changes have a higher one.
    #[must_use]
    pub fn typing_serial(&self) -> u64 {
        self.typing_state().serial()
    }

    /// Removes typing notices that timed out. Must be called about once a second.
    pub async fn expire(&self) {
        let now = self.now();
        let rooms = self.typing_state().expire(now);
        for room in rooms {
            self.wake_members(&room).await;
        }
    }

    /// Stores a receipt of a user of this server.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_receipt(&self, room: &RoomId, receipt: Receipt) -> Result<(), ReceiptError> {
        if receipt.kind != "m.read" {
            return self.store_receipt(room, &receipt).await.map(|_| ());
        }
        let servers = self.inner.membership_view.remote_servers(room);
        let (is_new, servers) = tokio::join!(self.store_receipt(room, &receipt), servers);
        if !is_new? {
            return Ok(());
        }
        let data = if receipt.thread.is_empty() {
            json!({"ts": receipt.at})
        } else {
            json!({"ts": receipt.at, "thread_id": receipt.thread})
        };
        let content = json!({ room.as_str(): {"m.read": {
            receipt.user.as_str(): {"event_ids": [receipt.event], "data": data}
        }}});
        let key = format!("receipt\0{room}\0{}\0{}", receipt.user, receipt.thread);
        self.inner.edus.send(room, &servers, "m.receipt", content, Some(key));
        Ok(())
    }

    /// Stores a receipt of another server's user.
    ///
    /// # Errors
    /// When the user belongs to another server or is not joined, or the store fails.
    pub async fn receipt_edu(&self, origin: &ServerName, room: &RoomId, receipt: Receipt) -> Result<(), ReceiptError> {
        if !receipts::is_thread(&receipt.thread) {
            return Err(EphemeralRefused::NoThread.into());
        }
        if !receipts::is_short(&receipt.event) {
            return Err(EphemeralRefused::LongId.into());
        }
        self.check_user(origin, room, &receipt.user).await?;
        self.store_receipt(room, &receipt).await?;
        Ok(())
    }

    /// The receipts of a room that changed after one position and up to another; `viewer` also gets their own private
    /// ones.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn receipts(
        &self,
        room: &RoomId,
        after: u64,
        through: u64,
        viewer: &UserId,
    ) -> Result<Vec<Receipt>, ReadError> {
        let store = &self.inner.store;
        let room_key = room.to_owned();
        // One row for each receipt that a user keeps, of which there is a limit.
        let changes = store
            .scan_all(
                RECEIPT_STREAM
                    .under(&(room_key.clone(),))
                    .after(&(room_key.clone(), after))
                    .through(&(room_key.clone(), through)),
            )
            .await?;
        let shown = changes.into_iter().map(|(_, change)| change);
        let shown: Vec<_> = shown
            .filter(|change| change.kind == "m.read" || change.user == viewer)
            .collect();
        let keys = shown
            .iter()
            .map(|change| (room, &*change.kind, &*change.thread, &change.user));
        let rows = store.get_many(&RECEIPTS, keys).await?;
        let found = shown.into_iter().zip(rows);
        Ok(found
            .filter_map(|(change, row)| {
                let row = row?;
                Some(Receipt {
                    kind: change.kind,
                    thread: change.thread,
                    user: change.user,
                    event: row.event,
                    at: row.at,
                })
            })
            .collect())
    }

    /// The event up to which a user has read a room.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn read_up_to(
        &self,
        room: &RoomId,
        user: &UserId,
        kind: &str,
    ) -> Result<Option<OwnedEventId>, ReadError> {
        let key = (room.to_owned(), kind.to_owned(), String::new(), user.to_owned());
        Ok(self.inner.store.get(&RECEIPTS, &key).await?.map(|row| row.event))
    }

    async fn change_typing(&self, room: &RoomId, user: &UserId, timeout_ms: Option<u64>) {
        let until = timeout_ms.map(|timeout| self.now().saturating_add(timeout.min(typing::MAX_TIMEOUT_MS)));
        if self.typing_state().set(room, user, until) {
            self.wake_members(room).await;
        }
    }

    async fn check_user(&self, origin: &ServerName, room: &RoomId, user: &UserId) -> Result<(), EphemeralRefused> {
        if user.server_name() != origin {
            return Err(EphemeralRefused::ForeignUser {
                user: user.to_owned(),
                origin: origin.to_string(),
            });
        }
        match self.inner.membership_view.member(room, user).await {
            Some(_) => Ok(()),
            None => Err(EphemeralRefused::NotJoined(user.to_owned())),
        }
    }

    async fn wake_members(&self, room: &RoomId) {
        let members: Vec<OwnedUserId> = self.inner.membership_view.local_members(room).await;
        self.inner.fanout.wake_unstored(members.iter().map(AsRef::as_ref));
    }

    fn typing_state(&self) -> MutexGuard<'_, Typing> {
        // Typing may be lost; a half-finished change is corrected by its timeout.
        self.inner.typing.lock()
    }

    fn now(&self) -> u64 {
        self.inner.clock.now().get().into()
    }
}
