//! A standard editor: a Yjs document with one client id. Yjs decides whether the server's data is correct. Must not be part of
//! a server: see ARCHITECTURE.md.

use bytes::Bytes;
use ruma::RoomId;
use serde_json::Value;
use weft_room::Rooms;
use weft_wire::update::UpdateContent;
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, TextRef, Transact as _,
    TransactionMut, Update,
    block::ClientID,
    updates::{decoder::Decode as _, encoder::Encode as _},
};

/// See the module.
pub struct Editor {
    doc: Doc,
    body: TextRef,
}

impl Editor {
    /// An editor without text; nobody else may use its client id.
    #[must_use]
    pub fn new(client: u64) -> Self {
        let mut options = Options::with_client_id(ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        let doc = Doc::with_options(options);
        let body = doc.get_or_insert_text("body");
        Self { doc, body }
    }

    /// An editor that has loaded a text.
    #[must_use]
    pub fn open(client: u64, content: &[u8]) -> Self {
        let editor = Self::new(client);
        editor.apply(content);
        editor
    }

    /// This editor's client id.
    #[must_use]
    pub fn client(&self) -> u64 {
        self.doc.client_id().get()
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        self.body.get_string(&self.doc.transact())
    }

    /// Inserts, and returns the update.
    ///
    /// # Panics
    /// If the position is over 2^32.
    pub fn insert(&mut self, at: usize, what: &str) -> Bytes {
        let mut transaction = self.doc.transact_mut();
        let at = at.min(self.body.len(&transaction) as usize);
        self.body.insert(&mut transaction, u32::try_from(at).unwrap(), what);
        transaction.encode_update_v1().into()
    }

    /// Appends, and returns the update.
    pub fn append(&mut self, what: &str) -> Bytes {
        self.insert(usize::MAX, what)
    }

    /// Removes, and returns the update.
    pub fn remove(&mut self, at: u32, len: u32) -> Bytes {
        let mut transaction = self.doc.transact_mut();
        self.body.remove_range(&mut transaction, at, len);
        transaction.encode_update_v1().into()
    }

    /// Changes the text, and returns what an editor sends that knows the state before: all deletions are in it again.
    pub fn change(&self, change: impl FnOnce(&TextRef, &mut TransactionMut<'_>)) -> Vec<u8> {
        let before = self.doc.transact().state_vector();
        change(&self.body, &mut self.doc.transact_mut());
        self.doc.transact().encode_diff_v1(&before)
    }

    /// Applies an update of the server.
    ///
    /// # Panics
    /// If Yjs refuses it.
    pub fn apply(&self, update: &[u8]) {
        let update = Update::decode_v1(update).unwrap();
        self.doc.transact_mut().apply_update(update).unwrap();
    }

    /// The state vector.
    #[must_use]
    pub fn vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// The complete document as an update.
    #[must_use]
    pub fn whole(&self) -> Bytes {
        let transaction = self.doc.transact();
        transaction.encode_state_as_update_v1(&StateVector::default()).into()
    }

    /// Fetches the missing updates.
    ///
    /// # Panics
    /// If the room refuses it.
    pub async fn pull(&self, rooms: &Rooms, room: &RoomId) {
        let update = rooms.diff(room, &self.vector()).await.unwrap();
        self.apply(&update);
    }
}

/// The text of an update, as a standard editor reads it.
#[must_use]
pub fn text_of(update: &[u8]) -> String {
    Editor::open(999_999, update).text()
}

/// The content of an update event with all blocks of a client that wrote this text.
///
/// # Panics
/// If the text is over 2^32 units long.
#[must_use]
pub fn update_content(client: u64, text: &str) -> Value {
    update_content_from(client, text, 0)
}

/// The same with the blocks from `from` only.
///
/// # Panics
/// If the text is over 2^32 units long.
#[must_use]
pub fn update_content_from(client: u64, text: &str, from: u32) -> Value {
    let editor = Editor::new(client);
    editor.change(|body, transaction| body.insert(transaction, 0, text));
    let mut known = StateVector::default();
    known.set_max(ClientID::new(client), from);
    let update = editor.doc.transact().encode_diff_v1(&known);
    let end = u32::try_from(text.encode_utf16().count()).unwrap();
    content_of(&update, [(client, (from, end))])
}

/// The content of an update event.
///
/// # Panics
/// Never: it is always serialisable.
#[must_use]
pub fn content_of(update: &[u8], ranges: impl IntoIterator<Item = (u64, (u32, u32))>) -> Value {
    serde_json::to_value(UpdateContent::new(update, ranges)).unwrap()
}
