//! Which updates become part of a document: a pure function of the update, its sender, and what is known before it, so that
//! every server decides alike. The rules in words are in `spec/docs/admission.md`; change both or neither.

use crate::block::{Block, Kind, Links};
use crate::limits::{CLOCK_END, EVENT_OVERHEAD, TYPE_NESTING};
use crate::nesting::{self, Fault};
use crate::{Bounds, ClientId, Id, ParseError, StateVector, Update, diff};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What is known of a document before an update: for an event, what its ancestors brought.
pub trait Known {
    /// Where the known blocks of a client end; 0 where there are none.
    fn end(&self, client: ClientId) -> u32;
    /// The user id of who used the client id first; `None` where nobody did.
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

/// What is to be done with an update that breaks no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is part of the document.
    Admitted {
        /// Of each client, the clocks `[from, to)` that are new; empty where the update only deletes.
        ranges: BTreeMap<ClientId, (u32, u32)>,
        /// The update without the blocks that were known already.
        update: Update,
    },
    /// All its blocks are known and it deletes nothing: there is nothing to do.
    Known,
    /// Earlier blocks of a client are missing. An event is inadmissible; a live editor is asked for them.
    Gap {
        /// Whose.
        client: ClientId,
        /// Where its known blocks end.
        known_end: u32,
        /// Where the update's begin.
        from: u32,
    },
}

/// The rule that an update breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no v1 update.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// It is too long.
    #[error("{bytes} bytes are more than {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Too many clients, blocks or deletions.
    #[error("{count} {what} are more than {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// It has a Skip block.
    #[error("client {client} has a hole in its blocks")]
    Skip {
        /// Whose.
        client: ClientId,
    },
    /// It has a sub-document.
    #[error("block {at} is a sub-document")]
    SubDocument {
        /// Where.
        at: Id,
    },
    /// It has content of the oldest Yjs versions, which engines read differently.
    #[error("block {at} is legacy JSON content")]
    LegacyJson {
        /// Where.
        at: Id,
    },
    /// It has an XML hook, which engines read differently.
    #[error("block {at} is an XML hook")]
    XmlHook {
        /// Where.
        at: Id,
    },
    /// It brings blocks of a client id that belongs to somebody else.
    #[error("client {client} belongs to {owner}")]
    ForeignClient {
        /// Whose.
        client: ClientId,
        /// To whom it belongs.
        owner: String,
    },
    /// A block refers to one that is neither known nor in the update, or that comes later.
    #[error("block {at} refers to {to}, which is not known before it")]
    UnknownOrigin {
        /// The block.
        at: Id,
        /// What it refers to.
        to: Id,
    },
    /// A block is said to lie between a unit and the same unit.
    #[error("block {at} has the same unit on its left and on its right")]
    OriginIsRightOrigin {
        /// Where.
        at: Id,
    },
    /// It deletes what is neither known nor in the update.
    #[error("clocks up to {to} of client {client} are deleted, but known only up to {known_end}")]
    UnknownDelete {
        /// Whose.
        client: ClientId,
        /// Where the deleted range ends.
        to: u32,
        /// Where what is known ends.
        known_end: u32,
    },
    /// Blocks wait for one another.
    #[error("block {at} waits for a block that waits for it")]
    Circle {
        /// One of them.
        at: Id,
    },
    /// Types nested too deeply.
    #[error("type {at} is nested deeper than {TYPE_NESTING}")]
    TooDeep {
        /// The type.
        at: Id,
    },
    /// A block that cannot be split and is too long for an event.
    #[error("block {at} has an indivisible piece of {bytes} bytes, more than {limit}")]
    PieceTooLarge {
        /// The block.
        at: Id,
        /// Length of the piece with what must be written before it.
        bytes: usize,
        /// The bound.
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

    /// Whether the same update may be admissible once more is known. A live editor that runs ahead of the server
    /// (two tabs of one browser tell each other first) is asked for what is missing, as with [`Admission::Gap`].
    pub fn may_be_early(&self) -> bool {
        matches!(
            self,
            Refusal::UnknownOrigin { .. } | Refusal::UnknownDelete { .. } | Refusal::Skip { .. }
        )
    }
}

/// Decides about an event's update.
pub fn admit(update: &Update, sender: &str, known: &impl Known) -> Result<Admission, Refusal> {
    admit_within(update, sender, known, &Bounds::EVENT)
}

/// Parses and decides about an event's bytes.
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

/// Decides within other bounds: [`Bounds::LIVE`] for what a live editor sends.
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

/// The blocks in the order in which rules are asked of them: clients ascending, then clocks. The order of the bytes is
/// another one, and must not decide which rule is named.
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

/// Of each run, where its client's known blocks end. New blocks must be the sender's.
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
fn is_there(update: &Update, known: &impl Known, id: Id) -> bool {
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
            is_there(update, known, to)
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
