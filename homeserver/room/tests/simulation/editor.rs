//! A user's editor: a Yjs document that was loaded from a server, and the words that the server has acknowledged.

use yrs::Text as _;

/// See the module.
pub struct Editor(weft_testkit::Editor);

impl Editor {
    /// Opens a document; `client` is this editor's Yjs client id, used by nobody else.
    pub fn open(client: u64, content: &[u8]) -> Self {
        Self(weft_testkit::Editor::open(client, content))
    }

    /// This editor's Yjs client id.
    pub fn client(&self) -> u64 {
        self.0.client()
    }

    /// Applies an update from the server.
    pub fn receive(&self, content: &[u8]) {
        self.0.apply(content);
    }

    fn text(&self) -> String {
        self.0.text()
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
        self.0
            .change(|body, transaction| body.insert(transaction, u32::try_from(at).unwrap(), word))
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
        let update = self
            .0
            .change(|body, transaction| body.remove_range(transaction, from, length));
        Some((update, gone))
    }
}
