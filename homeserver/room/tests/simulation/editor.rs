//! A user's editor: a Yjs document that was loaded from a server, and the words that the server has acknowledged.

use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, Text as _, Transact as _, Update,
    updates::decoder::Decode as _,
};

/// See the module.
pub struct Editor {
    doc: Doc,
}

fn load(client: u64, update: &[u8]) -> Doc {
    let doc = Doc::with_options(Options {
        client_id: yrs::block::ClientID::new(client),
        offset_kind: OffsetKind::Utf16,
        ..Options::default()
    });
    doc.get_or_insert_text("body");
    apply(&doc, update);
    doc
}

fn apply(doc: &Doc, update: &[u8]) {
    doc.transact_mut()
        .apply_update(Update::decode_v1(update).unwrap())
        .unwrap();
}

/// The text of an update.
pub fn read(update: &[u8]) -> String {
    text_of(&load(1, update))
}

fn text_of(doc: &Doc) -> String {
    let body = doc.get_or_insert_text("body");
    let transaction = doc.transact();
    body.get_string(&transaction)
}

impl Editor {
    /// Opens a document; `client` is this editor's Yjs client id, used by nobody else.
    pub fn open(client: u64, content: &[u8]) -> Self {
        Self {
            doc: load(client, content),
        }
    }

    /// This editor's Yjs client id.
    pub fn client(&self) -> u64 {
        self.doc.client_id().get()
    }

    /// Applies an update from the server.
    pub fn receive(&self, content: &[u8]) {
        apply(&self.doc, content);
    }

    /// The text in this editor.
    pub fn text(&self) -> String {
        text_of(&self.doc)
    }

    /// Inserts a word after another word, never inside one, so that words can be counted; returns the update.
    pub fn insert(&self, thousandths: u32, word: &str) -> Vec<u8> {
        let text = self.text();
        let at = self.place(thousandths) as usize;
        let at = match text[at..].find('>') {
            Some(more) if at > 0 => at + more + 1,
            Some(_) => 0,
            None => text.len(),
        };
        self.change(|body, transaction| body.insert(transaction, u32::try_from(at).unwrap(), word))
    }

    fn place(&self, thousandths: u32) -> u32 {
        thousandths * u32::try_from(self.text().len()).unwrap() / 1_000
    }

    /// Deletes whole words, so that the rest of two words never looks like a third; returns the update and the deleted
    /// text.
    pub fn delete(&self, thousandths: u32, count: u32) -> Option<(Vec<u8>, String)> {
        let text = self.text();
        let at = self.place(thousandths) as usize;
        let from = text[..at].rfind('>').map_or(0, |before| before + 1);
        let least = (at + count as usize).min(text.len());
        let to = text[least..].find('>').map_or(text.len(), |more| least + more + 1);
        let gone = text[from..to].to_owned();
        if gone.is_empty() {
            return None;
        }
        let (from, length) = (u32::try_from(from).unwrap(), u32::try_from(gone.len()).unwrap());
        let update = self.change(|body, transaction| body.remove_range(transaction, from, length));
        Some((update, gone))
    }

    fn change(&self, change: impl FnOnce(&yrs::TextRef, &mut yrs::TransactionMut<'_>)) -> Vec<u8> {
        let body = self.doc.get_or_insert_text("body");
        let before = self.doc.transact().state_vector();
        change(&body, &mut self.doc.transact_mut());
        self.doc.transact().encode_diff_v1(&before)
    }
}
