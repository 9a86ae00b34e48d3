//! The limits for every number from outside, with their reasons. Must not have logic.

/// Client ids are below this (2^53): JavaScript, in which most editors run, represents integers exactly up to here.
pub const CLIENT_ID_END: u64 = 1 << 53;

/// A clock and the end of a block are at most this (2^31): engines compute with signed 32-bit numbers, and ids near
/// 2^32 have been observed to wrap around to small ones.
pub const CLOCK_END: u32 = 1 << 31;

/// Nesting of arrays and objects in one value. Engines read values by recursion; 10,000 levels crash a process.
pub const VALUE_NESTING: u32 = 32;

/// Nesting up to which a value of a live update is read, only to find its end: the value is refused, the rest is
/// accepted. One level takes 16 bytes of memory and at least two of the input.
pub const REFUSED_VALUE_NESTING: u32 = 100_000;

/// Nesting of shared types (an XML element in an element) within one update. Same reason; real documents have been
/// observed with fewer than 20.
pub const TYPE_NESTING: u32 = 64;

/// Bytes of the update in one event: a Matrix event has at most 65,536 bytes of JSON, and base64 turns 3 bytes into 4.
pub const EVENT_BYTES: usize = 45_000;

/// Bytes of one update from a live editor: a pasted text of 6 MB, or weeks of offline edits. It is split on sealing,
/// and all of it must fit one batch of the store together with its events.
pub const LIVE_BYTES: usize = 8 << 20;

/// The largest input of the parser, in bytes: positions in it are 32-bit numbers.
pub const PARSE_BYTES: usize = 1 << 30;

/// Client ids with blocks in one event. An event names each with its range in up to 44 bytes of JSON, and 45,000 bytes
/// leave about 5,500 of a Matrix event. Each id also stays in the document's state vector for ever. An honest editor
/// creates one per session, so one event seldom has more than two.
pub const EVENT_CLIENTS: usize = 64;

/// Blocks in one event: half of the number of smallest blocks in 45,000 bytes.
pub const EVENT_BLOCKS: usize = 8_192;

/// Deleted ranges in one event (select all, delete, in a long document with many authors).
pub const EVENT_DELETES: usize = 8_192;

/// Client ids in a live update, before it is split into events.
pub const LIVE_CLIENTS: usize = 4_096;
/// See [`LIVE_CLIENTS`]. A parsed block takes about 72 bytes of memory, whatever its encoded length.
pub const LIVE_BLOCKS: usize = 1 << 19;
/// See [`LIVE_CLIENTS`]: a returning editor sends every deletion that it knows.
pub const LIVE_DELETES: usize = 1 << 20;

/// Bytes of an event that are reserved for counts and headers when an indivisible block is measured.
pub const EVENT_OVERHEAD: usize = 64;

/// The bounds for an update in [`crate::admit_within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Encoded length in bytes.
    pub bytes: usize,
    /// Client ids with new blocks.
    pub clients: usize,
    /// Blocks.
    pub blocks: usize,
    /// Deleted ranges.
    pub deletes: usize,
    /// The largest indivisible piece in bytes (an embed, one array element), so that splitting can succeed.
    pub piece: usize,
    /// The nesting of types within the update.
    pub types: u32,
}

impl Bounds {
    /// For a signed event: part of the protocol, equal on every server.
    pub const EVENT: Bounds = Bounds {
        bytes: EVENT_BYTES,
        clients: EVENT_CLIENTS,
        blocks: EVENT_BLOCKS,
        deletes: EVENT_DELETES,
        // An event is not split any further; its length is limit enough.
        piece: usize::MAX,
        types: TYPE_NESTING,
    };

    /// For an update from a live editor, before it is split into events: an update within these bounds can be split
    /// into parts within [`Bounds::EVENT`].
    pub const LIVE: Bounds = Bounds {
        bytes: LIVE_BYTES,
        clients: LIVE_CLIENTS,
        blocks: LIVE_BLOCKS,
        deletes: LIVE_DELETES,
        piece: EVENT_BYTES - EVENT_OVERHEAD,
        // A split starts a new part when one would become too deep.
        types: u32::MAX,
    };
}
