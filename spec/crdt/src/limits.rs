//! Every number that comes from outside has its bound here, with the reason. No logic.

/// Client ids are below this (2^53): JavaScript, in which most editors run, holds whole numbers exactly up to here.
pub const CLIENT_ID_END: u64 = 1 << 53;

/// A clock and the end of a block are at most this (2^31): engines compute with signed 32-bit numbers,
/// and ids near 2^32 were seen to wrap round to small ones.
pub const CLOCK_END: u32 = 1 << 31;

/// Nesting of arrays and objects inside one value. Engines read values by recursion; 10,000 levels end a process.
pub const VALUE_NESTING: u32 = 32;

/// Nesting that is still read of a value in a live update, only to find its end: the value is refused, the rest is taken. One
/// level takes 16 bytes of memory and at least two of the input.
pub const REFUSED_VALUE_NESTING: u32 = 100_000;

/// Nesting of shared types (an XML element in an element) as far as one update shows it. Same reason;
/// real documents were seen with fewer than 20.
pub const TYPE_NESTING: u32 = 64;

/// Bytes that one update event carries: a Matrix event is at most 65,536 bytes of JSON, and base64 makes 4 of 3.
pub const EVENT_BYTES: usize = 45_000;

/// Bytes that one update from a live editor may have: a pasted text of 6 MB, or what was written offline in weeks. It is split
/// on sealing, and all of it must fit one batch of the store together with its events.
pub const LIVE_BYTES: usize = 8 << 20;

/// Input that the parser looks at at all: positions in it are held as 32-bit numbers.
pub const PARSE_BYTES: usize = 1 << 30;

/// Client ids whose blocks one event may bring. An event names each with its range in up to 44 bytes of JSON, and what
/// 45,000 bytes leave of a Matrix event is about 5,500. Each id also stays in the document's state vector for ever; an
/// honest editor makes one per session, so one event seldom has more than two.
pub const EVENT_CLIENTS: usize = 64;

/// Blocks in one event. Half of what 45,000 bytes of the smallest blocks could be.
pub const EVENT_BLOCKS: usize = 8_192;

/// Deleted ranges in one event (select all, delete, in a long document with many authors).
pub const EVENT_DELETES: usize = 8_192;

/// What a live update may have before it is split into events.
pub const LIVE_CLIENTS: usize = 4_096;
/// See [`LIVE_CLIENTS`]. A parsed block takes some 72 bytes of memory, whatever its length on the wire.
pub const LIVE_BLOCKS: usize = 1 << 19;
/// See [`LIVE_CLIENTS`]: a returning editor sends every deletion that it knows.
pub const LIVE_DELETES: usize = 1 << 20;

/// What of an event's bytes is kept free for counts and headers when an indivisible block is measured.
pub const EVENT_OVERHEAD: usize = 64;

/// The bounds that [`crate::admit_within`] holds an update to.
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
    /// How deeply types may be nested, as far as the update shows it.
    pub types: u32,
}

impl Bounds {
    /// For a signed event: part of the protocol, equal on every server.
    pub const EVENT: Bounds = Bounds {
        bytes: EVENT_BYTES,
        clients: EVENT_CLIENTS,
        blocks: EVENT_BLOCKS,
        deletes: EVENT_DELETES,
        // An event is not split any more; its length says enough.
        piece: usize::MAX,
        types: TYPE_NESTING,
    };

    /// For an update from a live editor, before it is split into events: what passes here can be split into
    /// parts that pass [`Bounds::EVENT`].
    pub const LIVE: Bounds = Bounds {
        bytes: LIVE_BYTES,
        clients: LIVE_CLIENTS,
        blocks: LIVE_BLOCKS,
        deletes: LIVE_DELETES,
        piece: EVENT_BYTES - EVENT_OVERHEAD,
        // Splitting begins a new part where one would be too deep.
        types: u32::MAX,
    };
}
