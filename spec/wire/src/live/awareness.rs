//! The body of an awareness message (y-protocols): a list of clients, each with a clock and a JSON state.
//!
//! States are kept as text. Must not check them: [`crate::awareness::check_state`] does.

use weft_crdt::lib0::{Reader, Writer};

use super::{FrameError, finished};
use crate::limits::{MAX_AWARENESS_ENTRIES, MAX_FRAME_TEXT_BYTES};

/// One client's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The Yjs client id.
    pub client: u64,
    /// Grows with each change.
    pub clock: u64,
    /// JSON text; `null` is a removal.
    pub state: String,
}

impl Entry {
    /// Whether the entry is a removal.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.state == "null"
    }

    /// Whether the entry replaces another one of the same client (y-protocols): its clock is higher, or it is a removal with
    /// the same clock.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.clock > other.clock || (self.clock == other.clock && self.is_gone())
    }
}

/// Reads the body of an awareness message.
///
/// # Errors
/// If it is malformed, or announces more than [`MAX_AWARENESS_ENTRIES`].
pub fn parse(body: &[u8]) -> Result<Vec<Entry>, FrameError> {
    let mut reader = Reader::new(body);
    let count = usize::try_from(reader.var_uint()?).unwrap_or(usize::MAX);
    if count > MAX_AWARENESS_ENTRIES {
        return Err(FrameError::TooLong {
            what: "awareness",
            bytes: count,
            limit: MAX_AWARENESS_ENTRIES,
        });
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let (client, clock) = (reader.var_uint()?, reader.var_uint()?);
        let state = super::bounded("awareness state", reader.var_str()?, MAX_FRAME_TEXT_BYTES)?.to_owned();
        entries.push(Entry { client, clock, state });
    }
    finished(&reader)?;
    Ok(entries)
}

/// Writes the body of an awareness message.
#[must_use]
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.var_uint(entries.len() as u64);
    for entry in entries {
        writer.var_uint(entry.client);
        writer.var_uint(entry.clock);
        writer.var_str(&entry.state);
    }
    writer.into_vec()
}
