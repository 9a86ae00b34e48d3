//! The client ids under which edits by request are written. Each id is permanent in every state vector of its document, and a
//! document has a limited number of them, so one user's edits of one document continue under one id.
//!
//! Two edits must never use the same clocks. Edits under one id are therefore made one after the other, by one process that
//! drew the id itself, and only while the text has exactly what that process wrote. Whatever is in doubt is forgotten: then the
//! next edit has a new id. Nothing is stored.

use std::{fmt, sync::Arc, time::Duration};

use moka::sync::Cache;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};
use weft_crdt::{ClientId, Document, Update, limits::CLIENT_ID_END};
use weft_http::errors::{ApiError, ApiResult};
use weft_room_read::Reader;
use weft_wire::limits::{MAX_DECISIONS, MAX_EDIT_WRITERS, TEXT_READ_WAIT_SECONDS};

/// The writers of all documents. Cheap to clone.
#[derive(Clone)]
pub struct Writers {
    /// A writer that is lost costs one more client id.
    of: Cache<(OwnedRoomId, OwnedUserId), Arc<Mutex<Writer>>>,
    /// Users who create documents by requests with a key.
    creating: Cache<OwnedUserId, Arc<Mutex<()>>>,
    /// Suggestions about which a request decides.
    decisions: Cache<(OwnedRoomId, OwnedEventId), Arc<Mutex<()>>>,
    random: fn() -> u64,
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writers").finish_non_exhaustive()
    }
}

/// What one user's edits of a document were written under.
#[derive(Debug, Default)]
pub(super) struct Writer {
    last: Option<Blocks>,
}

/// The next clock of a client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) client: ClientId,
    pub(crate) clock: u32,
}

impl Writers {
    /// Without any writer. `random` returns any number; nobody may be able to predict it.
    #[must_use]
    pub fn new(random: fn() -> u64) -> Self {
        Self {
            of: Cache::new(MAX_EDIT_WRITERS),
            creating: Cache::new(MAX_EDIT_WRITERS),
            decisions: Cache::new(MAX_DECISIONS),
            random,
        }
    }

    /// The writer of a user in a document. Edits wait here for one another.
    ///
    /// # Errors
    /// When the user's earlier edits of the document take too long.
    pub(super) async fn of(&self, room: &RoomId, user: &UserId) -> ApiResult<OwnedMutexGuard<Writer>> {
        let writer = self.of.get_with((room.to_owned(), user.to_owned()), Arc::default);
        let turn = timeout(Duration::from_secs(TEXT_READ_WAIT_SECONDS), writer.lock_owned()).await;
        turn.map_err(|_| ApiError::unavailable("Your earlier edits of this document are not finished. Try again."))
    }

    /// The turn of a user's request that creates a document. Such requests of one user wait here for one another, because a
    /// repetition has to find what the first one creates.
    ///
    /// # Errors
    /// When the user's earlier requests take too long.
    pub(crate) async fn creating(&self, user: &UserId) -> ApiResult<OwnedMutexGuard<()>> {
        let turn = self.creating.get_with(user.to_owned(), Arc::default);
        let turn = timeout(Duration::from_secs(TEXT_READ_WAIT_SECONDS), turn.lock_owned()).await;
        turn.map_err(|_| ApiError::unavailable("Your earlier requests are not finished. Try again."))
    }

    /// A client id for a new document.
    pub(crate) fn draw(&self) -> ClientId {
        loop {
            if let Some(client) = ClientId::new((self.random)() % CLIENT_ID_END) {
                return client;
            }
        }
    }

    /// The turn to decide about a suggestion. Requests wait here for one another, so that none is accepted twice.
    ///
    /// # Errors
    /// When the earlier requests take too long.
    pub(crate) async fn decision(&self, room: &RoomId, suggestion: &OwnedEventId) -> ApiResult<OwnedMutexGuard<()>> {
        let key = (room.to_owned(), suggestion.clone());
        let turn = self.decisions.get_with(key, Arc::default).lock_owned();
        let turn = timeout(Duration::from_secs(TEXT_READ_WAIT_SECONDS), turn).await;
        turn.map_err(|_| ApiError::unavailable("Another decision about this suggestion is not finished. Try again."))
    }

    /// A client id that nobody has used in this document.
    pub(crate) async fn unused(&self, reader: &Reader, room: &RoomId, text: &Document) -> ApiResult<Blocks> {
        loop {
            let client = self.draw();
            if text.state_vector().get(client) == 0 && !reader.is_owned(room, client.get()).await? {
                return Ok(Blocks { client, clock: 0 });
            }
        }
    }
}

impl Writer {
    /// Where the last edit ended, if the text has exactly that.
    pub(super) fn next(&self, text: &Document) -> Option<Blocks> {
        self.last
            .filter(|last| text.state_vector().get(last.client) == last.clock)
    }

    /// An edit is given to the room: until its outcome is known, the client id is in doubt. Returns what was known before.
    pub(super) fn begin(&mut self) -> Option<Blocks> {
        self.last.take()
    }

    /// The edit was not applied.
    pub(super) fn unchanged(&mut self, before: Option<Blocks>) {
        self.last = before;
    }

    /// The edit is on disk.
    pub(super) fn written(&mut self, blocks: Blocks, update: &Update) {
        let end = update
            .ranges()
            .get(&blocks.client)
            .map_or(blocks.clock, |(_, end)| *end);
        self.last = Some(Blocks { clock: end, ..blocks }).filter(|blocks| blocks.clock > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "a" in the text `body`, by client 1, and "b" after it.
    const FIRST: &[u8] = &[1, 1, 1, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'a', 0];
    const SECOND: &[u8] = &[1, 1, 1, 1, 0x84, 1, 0, 1, b'b', 0];

    fn update(bytes: &'static [u8]) -> Update {
        Update::parse(bytes.into()).unwrap()
    }

    #[test]
    fn an_edit_continues_the_last_one_only_if_the_text_ends_there() {
        let client = ClientId::new(1).unwrap();
        let (mut writer, mut text) = (Writer::default(), Document::new());
        assert_eq!(writer.next(&text), None);
        writer.begin();
        writer.written(Blocks { client, clock: 0 }, &update(FIRST));
        assert_eq!(writer.next(&text), None, "the text has less");
        text.apply(&update(FIRST)).unwrap();
        assert_eq!(writer.next(&text), Some(Blocks { client, clock: 1 }));
        text.apply(&update(SECOND)).unwrap();
        assert_eq!(writer.next(&text), None, "the text has more");
        writer.written(Blocks { client, clock: 1 }, &update(SECOND));
        assert_eq!(writer.next(&text), Some(Blocks { client, clock: 2 }));
        let before = writer.begin();
        assert_eq!(writer.next(&text), None, "an edit is in doubt");
        writer.unchanged(before);
        assert_eq!(writer.next(&text), before);
    }
}
