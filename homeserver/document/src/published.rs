//! The text of a document as of its last commit, for readers: opening, content and differences don't wait for the
//! room's worker, whatever it does.
//!
//! After the first request for the text a worker publishes a copy of it here, and then only what each commit adds;
//! readers apply these updates to the copy when they read. So an edit costs no copy of the text, and a room without
//! readers has no second copy. Must not hold what is not on disk.

use std::sync::Arc;

use parking_lot::Mutex;
use weft_crdt::{ApplyError, Document, Update};

/// Bytes of unread updates above which the copy is dropped.
const MAX_UNREAD_BYTES: usize = 256 * 1024;
/// The number of such updates.
const MAX_UNREAD: usize = 1_024;

/// The text of one room, shared by its worker and its readers.
#[derive(Debug, Default)]
pub struct Published {
    /// The text that readers have merged. A worker must not wait for this lock.
    text: Mutex<Option<Arc<Document>>>,
    /// What the worker has committed since. Held only for a moment by either side.
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// The worker has the text in memory.
    is_in_memory: bool,
    /// The text is published.
    is_published: bool,
    /// The whole text, which replaces the one that readers have.
    whole: Option<Document>,
    /// Updates after it.
    updates: Vec<Update>,
    bytes: usize,
}

/// Where a reader gets the text of a room from.
#[derive(Debug)]
pub enum Readable {
    /// This text.
    Published(Arc<Document>),
    /// From the worker, which has it in memory.
    InMemory,
    /// From the store: nothing of it is in memory.
    OnDisk,
}

/// What a turn did to the text.
#[derive(Debug, Default)]
pub struct TextChange {
    /// The text was replaced, not only extended.
    pub is_replaced: bool,
    /// A reader requested the text.
    pub is_wanted: bool,
    /// What was added, in order.
    pub updates: Vec<Update>,
}

impl Published {
    /// Where the text as of the last commit is.
    pub fn readable(&self) -> Readable {
        match self.read() {
            Some(text) => Readable::Published(text),
            None if self.is_in_memory() => Readable::InMemory,
            None => Readable::OnDisk,
        }
    }

    /// Whether the worker has the text in memory.
    pub fn is_in_memory(&self) -> bool {
        self.pending.lock().is_in_memory
    }

    /// The text as of the last commit; `None` if the worker must be called for it.
    fn read(&self) -> Option<Arc<Document>> {
        let mut text = self.text.lock();
        let (whole, updates) = {
            let mut pending = self.pending.lock();
            if !pending.is_published {
                *text = None;
                return None;
            }
            pending.bytes = 0;
            (pending.whole.take(), std::mem::take(&mut pending.updates))
        };
        if let Some(whole) = whole {
            *text = Some(Arc::new(whole));
        }
        if let Some(text) = text.as_mut().filter(|_| !updates.is_empty())
            && let Err(error) = add(text, &updates)
        {
            tracing::error!(
                event = "room.published_text_dropped", %error,
                "the updates of a published text can't be applied; it is dropped"
            );
            self.withdraw();
        }
        if !self.pending.lock().is_published {
            *text = None;
        }
        text.clone()
    }

    /// Must be called after the commit of a turn and before anything is answered or published: `whole` is the text
    /// after it.
    pub fn committed(&self, change: TextChange, whole: impl FnOnce() -> Document) {
        let mut pending = self.pending.lock();
        pending.is_in_memory = true;
        if change.is_wanted && !pending.is_published || change.is_replaced && pending.is_published {
            *pending = Pending {
                is_in_memory: true,
                is_published: true,
                whole: Some(whole()),
                ..Pending::default()
            };
            return;
        }
        if !pending.is_published {
            return;
        }
        pending.bytes += change.updates.iter().map(Update::wire_len).sum::<usize>();
        pending.updates.extend(change.updates);
        if pending.bytes > MAX_UNREAD_BYTES || pending.updates.len() > MAX_UNREAD {
            drop(pending);
            self.withdraw();
        }
    }

    /// Readers call the worker from now on.
    fn withdraw(&self) {
        let is_in_memory = self.is_in_memory();
        self.drop_text(is_in_memory);
    }

    /// Readers use the store from now on: the worker has no text in memory.
    pub fn evicted(&self) {
        self.drop_text(false);
    }

    fn drop_text(&self, is_in_memory: bool) {
        *self.pending.lock() = Pending {
            is_in_memory,
            ..Pending::default()
        };
        // If a reader holds the lock, the next reader frees the memory.
        if let Some(mut text) = self.text.try_lock() {
            *text = None;
        }
    }
}

/// Copies the text only if a reader still uses it.
fn add(text: &mut Arc<Document>, updates: &[Update]) -> Result<(), ApplyError> {
    let text = Arc::make_mut(text);
    updates.iter().try_for_each(|update| text.apply(update))
}

#[cfg(test)]
mod tests {
    use weft_crdt::StateVector;
    use yrs::{Doc, ReadTxn as _, Text as _, Transact as _};

    use super::*;

    /// Updates of one letter each.
    fn letters(count: u32) -> Vec<Update> {
        let doc = Doc::with_client_id(7);
        let body = doc.get_or_insert_text("body");
        let write = |at| {
            let before = doc.transact().state_vector();
            body.insert(&mut doc.transact_mut(), at, "x");
            let bytes = doc.transact().encode_diff_v1(&before);
            Update::parse(bytes.into()).unwrap()
        };
        (0..count).map(write).collect()
    }

    fn document(updates: &[Update]) -> Document {
        let mut document = Document::new();
        updates.iter().for_each(|update| document.apply(update).unwrap());
        document
    }

    fn added(update: &Update) -> TextChange {
        TextChange {
            updates: vec![update.clone()],
            ..TextChange::default()
        }
    }

    fn wanted() -> TextChange {
        TextChange {
            is_wanted: true,
            ..TextChange::default()
        }
    }

    fn no_copy() -> Document {
        panic!("the text is copied")
    }

    #[test]
    fn committed_updates_are_readable_and_the_text_is_copied_once() {
        let (updates, published) = (letters(20), Published::default());
        assert!(published.read().is_none());
        published.committed(added(&updates[0]), no_copy);
        assert!(published.read().is_none(), "no reader has requested it");
        published.committed(wanted(), || document(&updates[..2]));
        for so_far in 3..=updates.len() {
            published.committed(added(&updates[so_far - 1]), no_copy);
            let text = published.read().unwrap();
            let whole = document(&updates[..so_far]);
            assert_eq!(text.state_vector(), whole.state_vector());
            assert_eq!(text.diff(&StateVector::new()), whole.encode());
        }
    }

    #[test]
    fn a_reader_keeps_its_text_while_more_is_committed() {
        let (updates, published) = (letters(3), Published::default());
        published.committed(wanted(), || document(&updates[..1]));
        let before = published.read().unwrap();
        published.committed(added(&updates[1]), no_copy);
        let after = published.read().unwrap();
        assert_eq!(before.state_vector(), document(&updates[..1]).state_vector());
        assert_eq!(after.state_vector(), document(&updates[..2]).state_vector());
    }

    #[test]
    fn readers_get_a_replaced_text() {
        let (updates, published) = (letters(3), Published::default());
        published.committed(wanted(), || document(&updates));
        assert!(published.read().is_some());
        let replaced = TextChange {
            is_replaced: true,
            ..TextChange::default()
        };
        published.committed(replaced, || document(&updates[..1]));
        let text = published.read().unwrap();
        assert_eq!(text.state_vector(), document(&updates[..1]).state_vector());
    }

    #[test]
    fn an_unread_text_is_dropped_and_published_again_on_request() {
        let (updates, published) = (letters(u32::try_from(MAX_UNREAD).unwrap() + 2), Published::default());
        published.committed(wanted(), || document(&updates[..1]));
        updates[1..]
            .iter()
            .for_each(|update| published.committed(added(update), no_copy));
        assert!(matches!(published.readable(), Readable::InMemory));
        assert!(published.text.lock().is_none());
        published.committed(wanted(), || document(&updates));
        assert!(published.read().is_some());
        assert!(matches!(published.readable(), Readable::Published(_)));
        published.evicted();
        assert!(
            matches!(published.readable(), Readable::OnDisk),
            "the worker lost its memory"
        );
    }
}
