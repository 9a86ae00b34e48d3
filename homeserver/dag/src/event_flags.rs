//! The decision about a persisted event, as bits that are stored with it. Must not contain anything else that a store keeps.

/// Rejected by the authorisation rules: never merged, never shown.
pub const REJECTED: u8 = 1;
/// Soft-failed: allowed at its position in the graph and not in the current state.
pub const SOFT_FAILED: u8 = 2;
/// An outlier: not all of its ancestors are here, so the state before it is unknown.
pub const OUTLIER: u8 = 4;
/// Its content was removed by a redaction.
pub const REDACTED: u8 = 8;
/// Soft-failed or rejected, and an ancestor of an accepted event. A soft-failed event counts from then on: its
/// server accepted it, and so did the server of the event that references it.
pub const REACHABLE: u8 = 16;
/// A pruned update: it is in the graph, and its content is requested from other servers.
pub const PRUNED: u8 = 32;

/// Whether an event with these flags is accepted: it is shown and is part of the current state.
#[must_use]
pub const fn is_accepted(flags: u8) -> bool {
    flags & (REJECTED | SOFT_FAILED | OUTLIER) == 0
}

/// Whether an event with these flags is accepted or an ancestor of an accepted one: the document depends on it.
#[must_use]
pub const fn is_reachable(flags: u8) -> bool {
    is_accepted(flags) || flags & REACHABLE != 0
}
