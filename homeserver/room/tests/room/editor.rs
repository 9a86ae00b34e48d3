//! A standard editor: a yrs document with one client id. Yjs decides whether the server's data is correct.

use bytes::Bytes;
use weft_room::Rooms;
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, TextRef, Transact as _, Update,
    updates::{decoder::Decode as _, encoder::Encode as _},
};

pub(crate) struct Editor {
    doc: Doc,
    text: TextRef,
    sent: StateVector,
}

impl Editor {
    pub(crate) fn new(client: u64) -> Self {
        let mut options = Options::with_client_id(yrs::block::ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text("body");
        Self {
            doc,
            text,
            sent: StateVector::default(),
        }
    }

    pub(crate) fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// Inserts, and returns the update.
    pub(crate) fn insert(&mut self, at: usize, what: &str) -> Bytes {
        let mut txn = self.doc.transact_mut();
        let at = at.min(self.text.len(&txn) as usize);
        self.text.insert(&mut txn, u32::try_from(at).unwrap(), what);
        let update = txn.encode_update_v1();
        drop(txn);
        self.sent = self.doc.transact().state_vector();
        update.into()
    }

    /// Appends, and returns the update.
    pub(crate) fn append(&mut self, what: &str) -> Bytes {
        self.insert(usize::MAX, what)
    }

    /// Removes, and returns the update.
    pub(crate) fn remove(&mut self, at: u32, len: u32) -> Bytes {
        let mut txn = self.doc.transact_mut();
        self.text.remove_range(&mut txn, at, len);
        txn.encode_update_v1().into()
    }

    pub(crate) fn apply(&self, update: &[u8]) {
        self.doc
            .transact_mut()
            .apply_update(Update::decode_v1(update).unwrap())
            .unwrap();
    }

    pub(crate) fn vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// The complete document as an update.
    pub(crate) fn whole(&self) -> Bytes {
        self.doc
            .transact()
            .encode_state_as_update_v1(&StateVector::default())
            .into()
    }

    /// Fetches the missing updates.
    pub(crate) async fn pull(&self, rooms: &Rooms, room: &ruma::RoomId) {
        let update = rooms.diff(room, &self.vector()).await.unwrap();
        self.apply(&update);
    }
}

/// The text of a merged update, as a standard editor reads it.
pub(crate) fn text_of(update: &[u8]) -> String {
    let editor = Editor::new(1);
    editor.apply(update);
    editor.text()
}
