//! The text of a document as of its last commit, for readers: opening, content and differences don't wait for the room's
//! worker, whatever it is doing.
//!
//! A worker that has been asked for the text once gives a copy of it here, and then only what each commit adds; readers add
//! that to the copy when they look. So an edit costs no copy of the text, and a room that nobody reads has no second one.
//! Must not hold what is not on disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_crdt::{ApplyError, Document, Update};

/// Bytes of updates that no reader has looked at, above which the copy is dropped.
const MAX_UNREAD_BYTES: usize = 256 * 1024;
/// The number of such updates.
const MAX_UNREAD: usize = 1_024;

/// The text of one room, shared by its worker and its readers.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// What readers have put together. A worker never waits for this lock.
    text: Mutex<Option<Arc<Document>>>,
    /// What the worker has committed since. Held for a moment by either side.
    news: Mutex<News>,
}

#[derive(Debug, Default)]
struct News {
    /// Readers find the text here.
    is_on: bool,
    /// The text as a whole, in the place of what readers have.
    whole: Option<Document>,
    /// What came after it.
    updates: Vec<Update>,
    bytes: usize,
}

/// What a turn did to the text.
#[derive(Debug, Default)]
pub(crate) struct TextChange {
    /// It is another text, not only longer.
    pub(crate) is_replaced: bool,
    /// Readers have asked for it.
    pub(crate) is_wanted: bool,
    /// What was added, in order.
    pub(crate) updates: Vec<Update>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic can leave behind at worst a text without its last updates, which then don't apply: see `read`.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Published {
    /// The text as of the last commit; None where it must be asked of the worker.
    pub(crate) fn read(&self) -> Option<Arc<Document>> {
        let mut text = lock(&self.text);
        let (whole, updates) = {
            let mut news = lock(&self.news);
            if !news.is_on {
                *text = None;
                return None;
            }
            news.bytes = 0;
            (news.whole.take(), std::mem::take(&mut news.updates))
        };
        if let Some(whole) = whole {
            *text = Some(Arc::new(whole));
        }
        if let Some(text) = text.as_mut().filter(|_| !updates.is_empty())
            && let Err(error) = add(text, &updates)
        {
            tracing::error!(%error, "a published text does not fit its updates and is dropped");
            self.withdraw();
        }
        if !lock(&self.news).is_on {
            *text = None;
        }
        text.clone()
    }

    /// To be called when a turn is on disk, and before anybody is told: `whole` is the text after it.
    pub(crate) fn committed(&self, change: TextChange, whole: impl FnOnce() -> Document) {
        let mut news = lock(&self.news);
        if change.is_wanted && !news.is_on || change.is_replaced && news.is_on {
            *news = News {
                is_on: true,
                whole: Some(whole()),
                ..News::default()
            };
            return;
        }
        if !news.is_on {
            return;
        }
        news.bytes += change.updates.iter().map(Update::wire_len).sum::<usize>();
        news.updates.extend(change.updates);
        if news.bytes > MAX_UNREAD_BYTES || news.updates.len() > MAX_UNREAD {
            drop(news);
            self.withdraw();
        }
    }

    /// Readers ask the worker from now on.
    pub(crate) fn withdraw(&self) {
        *lock(&self.news) = News::default();
        // Where a reader is at it, the next one frees the memory.
        if let Ok(mut text) = self.text.try_lock() {
            *text = None;
        }
    }
}

/// Copies the text only where a reader is still using it.
fn add(text: &mut Arc<Document>, updates: &[Update]) -> Result<(), ApplyError> {
    let text = Arc::make_mut(text);
    updates.iter().try_for_each(|update| text.apply(update))
}

#[cfg(test)]
mod tests {
    use weft_crdt::StateVector;
    use yrs::{Doc, ReadTxn as _, Text as _, Transact as _};

    use super::*;

    /// A text of so many letters, each in an update of its own.
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
    fn what_is_committed_is_read_and_the_text_is_copied_once() {
        let (updates, published) = (letters(20), Published::default());
        assert!(published.read().is_none());
        published.committed(added(&updates[0]), no_copy);
        assert!(published.read().is_none(), "nobody has asked for it");
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
    fn a_reader_keeps_what_it_has_while_more_is_committed() {
        let (updates, published) = (letters(3), Published::default());
        published.committed(wanted(), || document(&updates[..1]));
        let before = published.read().unwrap();
        published.committed(added(&updates[1]), no_copy);
        let after = published.read().unwrap();
        assert_eq!(before.state_vector(), document(&updates[..1]).state_vector());
        assert_eq!(after.state_vector(), document(&updates[..2]).state_vector());
    }

    #[test]
    fn a_text_that_is_replaced_is_another_one_for_readers() {
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
    fn a_text_that_nobody_reads_is_dropped_and_given_again_when_it_is_asked_for() {
        let (updates, published) = (letters(u32::try_from(MAX_UNREAD).unwrap() + 2), Published::default());
        published.committed(wanted(), || document(&updates[..1]));
        updates[1..]
            .iter()
            .for_each(|update| published.committed(added(update), no_copy));
        assert!(published.read().is_none());
        assert!(lock(&published.text).is_none());
        published.committed(wanted(), || document(&updates));
        assert!(published.read().is_some());
        published.withdraw();
        assert!(published.read().is_none(), "the worker lost its memory");
    }
}
