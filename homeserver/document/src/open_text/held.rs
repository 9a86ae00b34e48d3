//! The text of an open document in memory, and its eviction: a text that was neither edited nor read for a while is
//! dropped, and loaded again from the store when it is needed. Its state vector stays.
//!
//! Must not evict a text of which something is not on disk.

use std::time::Duration;

use bytes::Bytes;
use ruma::RoomId;
use tokio::time::Instant;
use weft_crdt::{ApplyError, Document, Update};
use weft_room_api::Unavailable;
use weft_room_read::{Reader, damaged};

use super::{
    OpenText,
    snapshot::{read_snapshot, read_tail},
};
use crate::published::Published;

/// A text, or its state vector while it is evicted.
pub(super) enum HeldText {
    Loaded {
        text: Document,
        /// When it was last edited, or requested from the worker.
        used: Instant,
    },
    Evicted {
        /// The encoded state vector.
        vector: Bytes,
        /// The store has another text: another process has written to the room.
        is_outdated: bool,
    },
}

impl HeldText {
    pub(super) fn new(text: Document) -> Self {
        Self::Loaded {
            text,
            used: Instant::now(),
        }
    }

    /// The text, which [`OpenText::load_text`] must have loaded.
    pub(super) fn get(&self) -> Result<&Document, Unavailable> {
        match self {
            Self::Loaded { text, .. } => Ok(text),
            Self::Evicted { .. } => Err(evicted()),
        }
    }

    /// The text to change it: this counts as a use.
    pub(super) fn get_mut(&mut self) -> Result<&mut Document, Unavailable> {
        self.note_used();
        match self {
            Self::Loaded { text, .. } => Ok(text),
            Self::Evicted { .. } => Err(evicted()),
        }
    }

    pub(super) fn note_used(&mut self) {
        if let Self::Loaded { used, .. } = self {
            *used = Instant::now();
        }
    }
}

fn evicted() -> Unavailable {
    Unavailable::Internal("the text of the document is not in memory".to_owned())
}

impl OpenText {
    /// When the text is to be evicted; `None` if it is not in memory, or if something of it is not on disk or a task
    /// works on it.
    pub fn evict_at(&self, after: Duration) -> Option<Instant> {
        let is_on_disk = self.pending.is_empty() && self.unwritten.is_none() && !self.is_being_folded();
        match &self.text {
            HeldText::Loaded { used, .. } if is_on_disk => Some(*used + after),
            _ => None,
        }
    }

    /// Drops the text from memory. Everything of it must be on disk.
    pub fn evict(&mut self) {
        if let Ok(text) = self.text.get() {
            let vector = text.state_vector().encode().into();
            self.text = HeldText::Evicted {
                vector,
                is_outdated: false,
            };
            self.pending.shrink_to_fit();
        }
    }

    /// Loads an evicted text from the store. The room must be loaded again if this fails because the store has another
    /// text.
    pub async fn load_text(&mut self, reader: &Reader, room: &RoomId) -> Result<(), Unavailable> {
        let HeldText::Evicted { vector, is_outdated } = &mut self.text else {
            return Ok(());
        };
        let snapshot = read_snapshot(reader, room).await?;
        let tail = read_tail(reader, room).await?;
        let text = text_of(snapshot.map(|(_, text)| text), tail).map_err(|error| damaged(room, &error))?;
        if text.state_vector().encode() != **vector {
            *is_outdated = true;
            return Err(Unavailable::Interrupted);
        }
        self.text = HeldText::new(text);
        Ok(())
    }

    /// Whether the room must be loaded again, because the store has another text than the one that was evicted.
    pub fn is_outdated(&self) -> bool {
        matches!(self.text, HeldText::Evicted { is_outdated: true, .. })
    }

    /// The encoded state vector of everything acknowledged.
    pub fn vector(&self) -> Bytes {
        match &self.text {
            HeldText::Loaded { text, .. } => text.state_vector().encode().into(),
            HeldText::Evicted { vector, .. } => vector.clone(),
        }
    }

    /// Publishes what the turn did to the text.
    pub fn publish(&mut self, published: &Published) {
        let change = std::mem::take(&mut self.change);
        match &self.text {
            HeldText::Loaded { text, .. } => published.committed(change, || text.clone()),
            HeldText::Evicted { .. } => published.evicted(),
        }
    }
}

/// The text of a stored snapshot and the updates after it.
pub(crate) fn text_of(snapshot: Option<Bytes>, tail: Vec<Bytes>) -> Result<Document, ApplyError> {
    let mut text = snapshot.map_or_else(|| Ok(Document::new()), Document::from_update)?;
    for update in tail {
        text.apply(&Update::parse(update)?)?;
    }
    Ok(text)
}
