//! The worker's part of merging events: persists them in a turn, with state, text, redactions and what they make due.
//! Must not decide about events ([`weft_ingest`]), and must not send requests to other servers.

mod ahead;
pub(crate) mod merge_session;
mod missing;
mod pruned;
mod redactions;
mod text;
