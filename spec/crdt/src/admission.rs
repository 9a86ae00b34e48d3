//! Admission: whether an update becomes part of a document, as a pure function of the update, its sender and what is
//! known before it, so that every server decides alike. The rules in words are in `spec/docs/admission.md`; must not be
//! changed without them.

use crate::block::{Block, Kind, Links};
use crate::limits::{CLOCK_END, EVENT_OVERHEAD, TYPE_NESTING};
use crate::nesting::{self, Fault};
use crate::{Bounds, ClientId, Id, ParseError, StateVector, Update, diff};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What is known of a document before an update; for an event, the updates of its ancestors.
pub trait Known {
    /// The clock after the last known block of a client; 0 if none is known.
    fn end(&self, client: ClientId) -> u32;
    /// The owner of a client id: the user id of its first user; `None` if it is unused.
    fn owner(&self, client: ClientId) -> Option<&str>;
}

impl<K: Known + ?Sized> Known for &K {
    fn end(&self, client: ClientId) -> u32 {
        (**self).end(client)
    }

    fn owner(&self, client: ClientId) -> Option<&str> {
        (**self).owner(client)
    }
}

/// The decision about an update that breaks no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The update becomes part of the document.
    Admitted {
        /// For each client, the clocks `[from, to)` that are new; empty if the update only deletes.
        ranges: BTreeMap<ClientId, (u32, u32)>,
        /// The update without the known blocks.
        update: Update,
    },
    /// All its blocks are known and it deletes nothing: there is nothing to do.
    Known,
    /// Earlier blocks of a client are missing. An event with a gap is inadmissible; a live editor is asked for the
    /// missing blocks.
    Gap {
        /// The client.
        client: ClientId,
        /// The clock after its last known block.
        known_end: u32,
        /// The first clock of the update.
        from: u32,
    },
}

/// The rule that an update breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a v1 update.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// Longer than the limit.
    #[error("the update has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many clients, blocks or deletions.
    #[error("the update has {count} {what}, the limit is {limit}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// It has a Skip block.
    #[error("the blocks of client {client} have a gap (Skip)")]
    Skip {
        /// The client.
        client: ClientId,
    },
    /// It has a sub-document.
    #[error("block {at} is a sub-document")]
    SubDocument {
        /// The block.
        at: Id,
    },
    /// It has content of the oldest Yjs versions, which engines read differently.
    #[error("block {at} has legacy JSON content")]
    LegacyJson {
        /// The block.
        at: Id,
    },
    /// It has an XML hook, which engines read differently.
    #[error("block {at} is an XML hook")]
    XmlHook {
        /// The block.
        at: Id,
    },
    /// It has new blocks of a client id with another owner.
    #[error("client {client} belongs to {owner}")]
    ForeignClient {
        /// The client.
        client: ClientId,
        /// The owner.
        owner: String,
    },
    /// A block refers to a later block, or to one that is neither known nor in the update.
    #[error("block {at} refers to {to}, which is not known before it")]
    UnknownOrigin {
        /// The block.
        at: Id,
        /// What it refers to.
        to: Id,
    },
    /// The left and the right origin of a block are the same unit.
    #[error("block {at} has the same unit as left and right origin")]
    OriginIsRightOrigin {
        /// The block.
        at: Id,
    },
    /// It deletes units that are neither known nor in the update.
    #[error("the update deletes clocks of client {client} up to {to}, which are known only up to {known_end}")]
    UnknownDelete {
        /// The client.
        client: ClientId,
        /// The end of the deleted range.
        to: u32,
        /// The end of the known clocks.
        known_end: u32,
    },
    /// The references of blocks form a cycle.
    #[error("the references of block {at} form a cycle")]
    Circle {
        /// One of the blocks.
        at: Id,
    },
    /// Types are nested too deeply.
    #[error("type {at} is nested deeper than {TYPE_NESTING}")]
    TooDeep {
        /// The type.
        at: Id,
    },
    /// A block that can't be divided is too long for an event.
    #[error("block {at} has an indivisible piece of {bytes} bytes, the limit is {limit}")]
    PieceTooLarge {
        /// The block.
        at: Id,
        /// The length of the piece with everything that must be written before it, in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Refusal {
    /// A short name for logs, counters, frames and test vectors.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::TooMany { .. } => "too_many",
            Refusal::Skip { .. } => "skip",
            Refusal::SubDocument { .. } => "sub_document",
            Refusal::LegacyJson { .. } => "legacy_json",
            Refusal::XmlHook { .. } => "xml_hook",
            Refusal::ForeignClient { .. } => "foreign_client",
            Refusal::UnknownOrigin { .. } => "unknown_origin",
            Refusal::OriginIsRightOrigin { .. } => "origin_is_right_origin",
            Refusal::UnknownDelete { .. } => "unknown_delete",
            Refusal::Circle { .. } => "circle",
            Refusal::TooDeep { .. } => "too_deep",
            Refusal::PieceTooLarge { .. } => "piece_too_large",
        }
    }

    /// Whether the same update may be admissible once more is known. A live editor ahead of the server (two tabs of one
    /// browser synchronise with each other first) is asked for the missing blocks, as with [`Admission::Gap`].
    pub fn may_be_early(&self) -> bool {
        matches!(
            self,
            Refusal::UnknownOrigin { .. } | Refusal::UnknownDelete { .. } | Refusal::Skip { .. }
        )
    }
}

/// Decides about the update of an event.
pub fn admit(update: &Update, sender: &str, known: &impl Known) -> Result<Admission, Refusal> {
    admit_within(update, sender, known, &Bounds::EVENT)
}

/// Parses the bytes of an event's update and decides about it.
pub fn admit_bytes(bytes: Bytes, sender: &str, known: &impl Known) -> Result<Admission, Refusal> {
    let len = bytes.len();
    if len > Bounds::EVENT.bytes {
        return Err(Refusal::TooLarge {
            bytes: len,
            limit: Bounds::EVENT.bytes,
        });
    }
    admit(&Update::parse(bytes)?, sender, known)
}

/// Decides with other bounds: [`Bounds::LIVE`] for updates of live editors.
pub fn admit_within(update: &Update, sender: &str, known: &impl Known, bounds: &Bounds) -> Result<Admission, Refusal> {
    check_counts(update, bounds)?;
    by_client(update).try_for_each(|block| check_kind(update, block))?;
    let ends = known_ends(update, sender, known)?;
    for (run, end) in update.runs.iter().zip(&ends) {
        if run.from > *end {
            return Ok(Admission::Gap {
                client: run.client,
                known_end: *end,
                from: run.from,
            });
        }
    }
    let new = without_known(update, &ends);
    for block in by_client(&new) {
        check_links(&new, block, known)?;
        check_piece(&new, block, bounds)?;
    }
    check_deletes(&new, known)?;
    nesting::check(&new, bounds.types).map_err(|fault| match fault {
        Fault::Circle(at) => Refusal::Circle { at },
        Fault::TooDeep(at) => Refusal::TooDeep { at },
    })?;
    if new.is_empty() {
        return Ok(Admission::Known);
    }
    let ranges = new.runs.iter().map(|run| (run.client, (run.from, run.to))).collect();
    Ok(Admission::Admitted { ranges, update: new })
}

/// The blocks in the order in which the rules are checked: clients ascending, then clocks. The order of the bytes is
/// another one and must not determine which rule is named.
fn by_client(update: &Update) -> impl Iterator<Item = &Block> {
    update.runs.iter().flat_map(|run| update.run_blocks(run))
}

pub(crate) fn check_counts(update: &Update, bounds: &Bounds) -> Result<(), Refusal> {
    if update.wire_len > bounds.bytes {
        return Err(Refusal::TooLarge {
            bytes: update.wire_len,
            limit: bounds.bytes,
        });
    }
    let counts = [
        ("clients", update.runs.len(), bounds.clients),
        ("blocks", update.blocks.len(), bounds.blocks),
        ("deleted ranges", update.deletes.len(), bounds.deletes),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        Some((what, count, limit)) => Err(Refusal::TooMany { what, count, limit }),
        None => Ok(()),
    }
}

pub(crate) fn check_kind(update: &Update, block: &Block) -> Result<(), Refusal> {
    let at = block.id();
    match block.kind() {
        Kind::Skip => Err(Refusal::Skip { client: block.client }),
        Kind::Doc => Err(Refusal::SubDocument { at }),
        Kind::Json => Err(Refusal::LegacyJson { at }),
        Kind::Type if update.buf.get(block.content as usize) == Some(&XML_HOOK) => Err(Refusal::XmlHook { at }),
        _ => Ok(()),
    }
}

/// The number of the shared type that yrs reads without its name.
const XML_HOOK: u8 = 5;

/// For each run, the clock after the client's last known block. New blocks must have the sender as owner.
fn known_ends(update: &Update, sender: &str, known: &impl Known) -> Result<Vec<u32>, Refusal> {
    let mut ends = Vec::with_capacity(update.runs.len());
    for run in &update.runs {
        let end = known.end(run.client);
        let owner = if run.to > end { known.owner(run.client) } else { None };
        if let Some(owner) = owner.filter(|owner| *owner != sender) {
            return Err(Refusal::ForeignClient {
                client: run.client,
                owner: owner.to_owned(),
            });
        }
        ends.push(end);
    }
    Ok(ends)
}

fn without_known(update: &Update, ends: &[u32]) -> Update {
    if update.runs.iter().zip(ends).all(|(run, end)| run.from >= *end) {
        return update.clone();
    }
    let sv: StateVector = update
        .runs
        .iter()
        .zip(ends)
        .map(|(run, end)| (run.client, *end))
        .collect();
    diff(update, &sv)
}

/// Whether a unit is known before the update or in it.
fn is_known_or_new(update: &Update, known: &impl Known, id: Id) -> bool {
    id.clock < end_with(update, known, id.client)
}

fn end_with(update: &Update, known: &impl Known, client: ClientId) -> u32 {
    let own = update
        .run_of(client)
        .and_then(|at| update.runs.get(at))
        .map(|run| run.to);
    own.unwrap_or_else(|| known.end(client))
}

#[inline]
fn check_links(update: &Update, block: &Block, known: &impl Known) -> Result<(), Refusal> {
    for to in block.links.needs() {
        let earlier = if to.client == block.client {
            to.clock < block.clock
        } else {
            is_known_or_new(update, known, to)
        };
        if !earlier {
            return Err(Refusal::UnknownOrigin { at: block.id(), to });
        }
    }
    match block.links {
        Links::Both(origin, right) if origin == right => Err(Refusal::OriginIsRightOrigin { at: block.id() }),
        _ => Ok(()),
    }
}

fn check_deletes(update: &Update, known: &impl Known) -> Result<(), Refusal> {
    for (client, _, to) in update.deletes.iter() {
        let known_end = end_with(update, known, client);
        if to > known_end || to > CLOCK_END {
            return Err(Refusal::UnknownDelete { client, to, known_end });
        }
    }
    Ok(())
}

fn check_piece(update: &Update, block: &Block, bounds: &Bounds) -> Result<(), Refusal> {
    if (block.end - block.start) as usize + EVENT_OVERHEAD <= bounds.piece {
        return Ok(());
    }
    let bytes = crate::split::largest_piece(block, &update.buf);
    if bytes > bounds.piece {
        return Err(Refusal::PieceTooLarge {
            at: block.id(),
            bytes,
            limit: bounds.piece,
        });
    }
    Ok(())
}
