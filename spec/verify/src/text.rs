//! The text of a log: which updates are part of it, and its state hash.
//!
//! Event by event while no clock is claimed twice; otherwise from all events at the end, which then have to be in memory.
//! Must not render anything.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use weft_convergence::{
    rebuild::{PersistedEvent, claim_of, rebuild},
    sequence::{Decision, Sequence, known_before},
};
use weft_crdt::{DeleteSet, Document, StateHash, StateVector, Update};
use weft_dag::{Pdu, event_flags};
use weft_wire::limits::{MAX_AUDIT_KEPT_BYTES, MAX_RENDER_STATE_BYTES};

use crate::{
    Doubt, Failed,
    versions::{Version, Versions},
};

/// The text so far.
#[derive(Default)]
pub(crate) struct Text {
    vectors: Versions<Arc<StateVector>>,
    sequence: Sequence,
    content: Content,
    /// All events, if they are kept.
    kept: Option<Vec<PersistedEvent>>,
    kept_bytes: usize,
    is_claimed_twice: bool,
    whole: WholeText,
}

/// The text itself, if it is wanted.
#[derive(Default)]
enum WholeText {
    #[default]
    NotWanted,
    Kept(Box<Document>),
    /// It is larger than a renderer takes.
    TooLarge,
}

impl WholeText {
    fn add(&mut self, update: &Update) {
        let Self::Kept(text) = self else { return };
        let fits = text.byte_len().saturating_add(update.wire_len()) <= MAX_RENDER_STATE_BYTES;
        if !fits || text.apply(update).is_err() {
            *self = Self::TooLarge;
        }
    }

    fn begin(&mut self) {
        if !matches!(self, Self::NotWanted) {
            *self = Self::Kept(Box::default());
        }
    }

    fn finish(self) -> Option<Vec<u8>> {
        match self {
            Self::Kept(mut text) => {
                text.compact();
                Some(text.encode())
            }
            Self::NotWanted | Self::TooLarge => None,
        }
    }
}

/// What a state hash is of.
#[derive(Default)]
struct Content {
    vector: StateVector,
    deletes: DeleteSet,
    updates: u64,
}

impl Content {
    fn add(&mut self, update: &Update) {
        for (client, (_, to)) in update.ranges() {
            self.vector.raise(client, to);
        }
        self.deletes.merge(update.delete_set());
        self.updates += 1;
    }
}

/// The text of a whole log.
pub(crate) struct Whole {
    /// Updates that are part of it.
    pub(crate) updates: u64,
    /// Unpadded URL-safe base64.
    pub(crate) state_hash: String,
    /// Later events may change it.
    pub(crate) disputed: bool,
    /// The text as an update, if it is wanted and a renderer takes it.
    pub(crate) text: Option<Vec<u8>>,
}

impl Text {
    pub(crate) fn new(keeps_events: bool, keeps_text: bool) -> Self {
        Self {
            kept: keeps_events.then(Vec::new),
            whole: match keeps_text {
                true => WholeText::Kept(Box::default()),
                false => WholeText::NotWanted,
            },
            ..Self::default()
        }
    }

    pub(crate) fn work(&self) -> u64 {
        self.vectors.work()
    }

    /// Adds an event that follows these vectors, and returns the vector after it.
    pub(crate) fn add(&mut self, pdu: &Arc<Pdu>, mut prev: Vec<Version>) -> Result<Version, Failed> {
        let flags = if pdu.rejected() { event_flags::REJECTED } else { 0 };
        self.keep(pdu, flags)?;
        if self.is_claimed_twice {
            return Ok(Versions::<Arc<StateVector>>::EMPTY);
        }
        prev.sort_unstable();
        prev.dedup();
        let before = self
            .vectors
            .merge(&prev, |vectors| Ok::<_, Failed>(known_before(vectors.iter())))?;
        let Some(claim) = claim_of(pdu, flags) else {
            return Ok(before);
        };
        let known = self.vectors.get(before);
        match self.sequence.next(&claim, &known) {
            Decision::Stands(admitted) => {
                // Released first, so that the vector is changed in place.
                drop(known);
                self.content.add(&admitted.update);
                self.whole.add(&admitted.update);
                let ends = admitted.ranges.iter().map(|(client, (_, to))| (*client, *to));
                Ok(self.vectors.change(before, ends.collect()))
            }
            Decision::Falls => Ok(before),
            Decision::ClaimedTwice(_) if self.kept.is_none() => Err(Failed::ClaimedTwice),
            Decision::ClaimedTwice(_) => {
                self.is_claimed_twice = true;
                Ok(before)
            }
        }
    }

    fn keep(&mut self, pdu: &Arc<Pdu>, flags: u8) -> Result<(), Failed> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        self.kept_bytes += pdu.json().len();
        if self.kept_bytes > MAX_AUDIT_KEPT_BYTES {
            return Err(Failed::Unjudged(Doubt::TooMany {
                what: "bytes of events with claims to the same clocks",
                limit: MAX_AUDIT_KEPT_BYTES as u64,
            }));
        }
        kept.push(PersistedEvent {
            pdu: Arc::clone(pdu),
            flags,
        });
        Ok(())
    }

    /// The text of all events.
    pub(crate) fn finish(mut self) -> Whole {
        let mut disputed = false;
        if self.is_claimed_twice {
            let rebuilt = rebuild(self.kept.take().unwrap_or_default(), None);
            self.content = Content::default();
            self.whole.begin();
            for standing in &rebuilt.updates {
                self.content.add(&standing.update);
                self.whole.add(&standing.update);
            }
            disputed = rebuilt.is_disputed;
        }
        let hash = StateHash::of(&self.content.vector, &self.content.deletes);
        Whole {
            updates: self.content.updates,
            state_hash: URL_SAFE_NO_PAD.encode(hash.as_bytes()),
            disputed,
            text: self.whole.finish(),
        }
    }
}
